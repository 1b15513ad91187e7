"""Stack operations: create, update, roll back and delete, each resource as soon as what it depends on is done.

They take the place of MiniStack's own, which handle one resource after the other, in the same signatures. An operation
keeps its progress on the stack's record, so that a rollback needs nothing else: the one after a failure, the one of
`RollbackStack` or `ContinueUpdateRollback` later, and the one after the region itself was killed.

Statuses, events and reasons: AWS CloudFormation User Guide, "View stack events" and "Stack failure options".
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ministack.core.responses import now_iso
from ministack.services import cloudformation as records
from ministack.services.cloudformation import engine, handlers, stacks

from alva.region.cloudformation import imports, provisioning, schemas
from alva.region.cloudformation.graph import STOP_POLL_SECONDS, Outcome, reversed_dependencies, run_in_order

logger = logging.getLogger("alva.cloudformation")

Stack = dict[str, Any]
Operation = dict[str, Any]
Step = dict[str, Any]

STACK_TYPE = "AWS::CloudFormation::Stack"
REPLACEMENT_REASON = "Requested update requires the creation of a new physical resource; hence creating one."
RETAINING_POLICIES = ("Retain", "RetainExceptOnCreate")


def stacks_changed() -> None:
    """Called after every step of an operation; `extension.install` has the state saved then."""


class Context:
    """A stack with one of its templates: resolves what the template says, records what happens."""

    def __init__(self, stack: Stack, template: dict[str, Any], parameters: dict[str, Any]) -> None:
        self.stack = stack
        self.name: str = stack["StackName"]
        self.id: str = stack["StackId"]
        self.template = template
        self.parameters = parameters
        self.mappings = template.get("Mappings") or {}
        self.conditions = engine._evaluate_conditions(template, parameters)
        self.definitions: dict[str, dict[str, Any]] = {
            name: definition
            for name, definition in (template.get("Resources") or {}).items()
            if not definition.get("Condition") or self.conditions.get(definition["Condition"], True)
        }

    def dependencies(self, names: Iterable[str] | None = None) -> dict[str, set[str]]:
        """What each resource needs before it, among `names`. Raises ValueError for a circle."""
        engine._topological_sort(self.template.get("Resources") or {}, self.conditions)
        wanted = set(self.definitions if names is None else names)
        return {
            name: engine._extract_deps(self.definitions[name], set(self.definitions)) & wanted
            if name in self.definitions
            else set()
            for name in wanted
        }

    def resolve(self, value: Any, resources: Mapping[str, Any]) -> Any:
        return engine._resolve_refs(
            copy.deepcopy(value), resources, self.parameters, self.conditions, self.mappings, self.name, self.id
        )

    def policy(self, logical_id: str, attribute: str, resources: Mapping[str, Any]) -> str:
        """DeletionPolicy or UpdateReplacePolicy of a resource, `Delete` by default."""
        definition = (self.template.get("Resources") or {}).get(logical_id)
        return str(
            stacks._resource_policy(
                definition, attribute, resources, self.parameters, self.conditions, self.mappings, self.name, self.id
            )
        )

    def with_tags(self, resource_type: str, logical_id: str, properties: dict[str, Any], tags: Any) -> dict[str, Any]:
        """The properties with the stack's tags and CloudFormation's own added, as the resource gets them."""
        tagged = stacks._with_stack_tags(resource_type, properties, tags, self.name, self.id, logical_id)
        return dict(tagged)

    def event(self, logical_id: str, resource_type: str, status: str, reason: str = "", physical_id: str = "") -> None:
        stacks._add_event(self.id, self.name, logical_id, resource_type, status, reason, physical_id)
        stacks_changed()

    def stack_event(self, status: str, reason: str = "") -> None:
        """Set the stack's status and record the event of it."""
        self.stack["StackStatus"] = status
        self.stack["StackStatusReason"] = reason
        self.event(self.name, STACK_TYPE, status, reason, self.id)


# --- create and update ---------------------------------------------------------------------------------------------


async def deploy(
    stack_name: str,
    stack_id: str,
    template: dict[str, Any],
    param_values: dict[str, Any],
    disable_rollback: bool,
    tags: list[Any],  # noqa: ARG001 (MiniStack's signature; the stack record has them)
    is_update: bool = False,
    previous_stack: Stack | None = None,
    retain_except_on_create: bool = False,
    imports: dict[str, Any] | None = None,
) -> None:
    """Create or update a stack, and roll it back if that fails. In place of MiniStack's `_deploy_stack_async`."""
    stack: Stack = records._stacks[stack_name]
    for leftover in ("_failed_operation", "_rollback_failed", "_cancel_requested", "_cancel_token"):
        stack.pop(leftover, None)
    operation: Operation = {
        "is_update": is_update,
        "previous_stack": previous_stack if is_update else None,
        "template": template,
        "param_values": param_values,
        "retain_except_on_create": retain_except_on_create,
        "stack_tags": list(stack.get("Tags") or []),
        "previous_tags": list((previous_stack or {}).get("Tags") or []),
        "imports": dict(imports or {}),
        "disable_rollback": disable_rollback,
        "steps": {},
    }
    stack["_operation"] = operation
    verb = "UPDATE" if is_update else "CREATE"
    context = Context(stack, template, param_values)
    try:
        dependencies = context.dependencies()
    except ValueError as error:
        await _fail(context, operation, str(error))
        return
    if not stack.get("_disable_validation") and stacks._fail_property_validation(
        stack,
        stack_id,
        stack_name,
        template.get("Resources") or {},
        list(dependencies),
        param_values,
        context.conditions,
        context.mappings,
        disable_rollback,
        previous_stack=(previous_stack or {}) if is_update else None,
    ):
        stack.pop("_operation", None)
        return

    outcome = await run_in_order(
        dependencies,
        lambda name: _provision(context, operation, name),
        may_cancel=lambda name: provisioning.is_cancellable(context.definitions[name].get("Type", "")),
        stop_requested=lambda: bool(stack.get("_cancel_requested") if is_update else stack.get("_delete_requested")),
    )
    _record_failures(context, operation, outcome)
    if stack.get("_delete_requested"):
        _keep_unfinished(context, operation)
        stack.pop("_operation", None)
        return
    if outcome.failed or outcome.was_stopped:
        if outcome.was_stopped:
            stacks.CLIENT_REQUEST_TOKEN.set(stack.pop("_cancel_token", ""))
        await _fail(context, operation, _failure_reason(operation, outcome))
        return
    try:
        outputs, exports = _outputs(context, previous_stack)
    except Exception as error:
        await _fail(context, operation, str(error), is_output=True)
        return
    stack["_template"] = template
    stack["_resolved_params"] = param_values
    stack["Outputs"] = outputs
    _replace_exports(stack_id, exports)
    if is_update:
        context.stack_event("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        await _clean_up_after_update(context, operation)
    stack.pop("_operation", None)
    context.stack_event(f"{verb}_COMPLETE")


async def _provision(context: Context, operation: Operation, logical_id: str) -> None:
    """Make or change one resource, and note how far it came. Raises what its handler raises."""
    await provisioning.breathe()
    stack, definition = context.stack, context.definitions[logical_id]
    resource_type = definition.get("Type", "AWS::CloudFormation::CustomResource")
    resources: dict[str, Any] = stack["_resources"]
    previous = ((operation["previous_stack"] or {}).get("_resources") or {}).get(logical_id)
    # A resource that an update adds is created, and its events say so.
    verb = "UPDATE" if previous else "CREATE"
    step: Step = {"type": resource_type, "action": "update" if previous else "create", "state": "in progress"}
    operation["steps"][logical_id] = step
    try:
        properties, dynamic = _resolved_properties(context, operation, logical_id, definition, previous)
        if problems := schemas.problems(resource_type, properties):
            # Before the handler is called, as AWS validates a request against the type's schema.
            listed = "\n".join(problems)
            raise ValueError(f"Properties validation failed for resource {logical_id} with message:\n[{listed}]")
        new = context.with_tags(resource_type, logical_id, properties, operation["stack_tags"])
        step["new"] = new

        def announced(physical_id: str) -> None:
            step["physical_id"] = physical_id
            context.event(logical_id, resource_type, f"{verb}_IN_PROGRESS", "Resource creation Initiated", physical_id)

        if previous:
            old = context.with_tags(
                resource_type, logical_id, previous.get("Properties") or {}, operation["previous_tags"]
            )
            if old == new and previous.get("ResourceType") == resource_type:
                # Nothing about it changed: AWS neither touches it nor records an event.
                resources[logical_id] = {**previous, "Properties": properties}
                step["state"] = "unchanged"
                return
            made = await _change(context, operation, logical_id, resource_type, previous, old, new, announced)
        else:
            context.event(logical_id, resource_type, f"{verb}_IN_PROGRESS")
            identifier = operation["imports"].get(logical_id)
            if identifier is not None:
                step["action"] = "import"
                physical_id, attributes = stacks._adopt_resource(
                    context.id, context.name, logical_id, resource_type, identifier
                )
                made = provisioning.Made(physical_id, attributes)
            else:
                imports.refuse_existing(resource_type, new)
                made = await provisioning.create(resource_type, logical_id, new, context.name, announced)
        step["physical_id"] = made.physical_id
        step["state"] = "done"
        resources[logical_id] = {
            "PhysicalResourceId": made.physical_id,
            "ResourceType": resource_type,
            "ResourceStatus": "UPDATE_COMPLETE" if step["action"] == "import" else f"{verb}_COMPLETE",
            "LogicalResourceId": logical_id,
            "Properties": properties,
            "Attributes": made.attributes,
            "Timestamp": now_iso(),
            **({"_dynamic": dynamic} if dynamic else {}),
            **({"_name_seed": made.name_seed} if made.name_seed else {}),
        }
        if step["action"] != "import":
            context.event(logical_id, resource_type, f"{verb}_COMPLETE", physical_id=made.physical_id)
    except asyncio.CancelledError:
        step["state"] = "cancelled"
        raise
    except Exception:
        step["state"] = "failed"
        raise


async def _change(
    context: Context,
    operation: Operation,
    logical_id: str,
    resource_type: str,
    previous: dict[str, Any],
    old: dict[str, Any],
    new: dict[str, Any],
    announced: Callable[[str], None],
) -> provisioning.Made:
    """Update a resource in place, or make its replacement."""
    step = operation["steps"][logical_id]
    physical_id = previous["PhysicalResourceId"]
    if previous.get("ResourceType") != resource_type:
        raise ValueError(
            "Update of resource type is not permitted. The new template modifies resource type of the "
            f"following resources: [{logical_id}]"
        )
    refused = stacks._custom_named_replacement_error(resource_type, old, new)
    replaces = not refused and provisioning.is_replacement(resource_type, old, new)
    step.update(old=old, old_physical_id=physical_id)
    if replaces:
        step["action"] = "replace"
        context.event(logical_id, resource_type, "UPDATE_IN_PROGRESS", REPLACEMENT_REASON, physical_id)
    else:
        step["physical_id"] = physical_id
        context.event(logical_id, resource_type, "UPDATE_IN_PROGRESS", physical_id=physical_id)
    if refused:
        step["action"] = "refused"
    made = await provisioning.update(
        resource_type,
        logical_id,
        physical_id,
        old,
        new,
        previous.get("Attributes") or {},
        context.name,
        name_seed=previous.get("_name_seed", ""),
        retains_replaced=context.policy(logical_id, "UpdateReplacePolicy", context.stack["_resources"])
        in RETAINING_POLICIES,
        announced=announced,
    )
    if made.physical_id != physical_id or made.pending_deletes:
        step["action"] = "replace"
        # Callables do not survive a restart; then the deletion by physical id, below, is what remains.
        operation.setdefault("_pending_deletes", PendingDeletes())[logical_id] = made.pending_deletes
    return made


class PendingDeletes(dict[str, Any]):
    """Deletions left to the clean-up phase, by logical id. Not part of the persisted state: copies come out empty."""

    def __deepcopy__(self, memo: dict[int, Any]) -> PendingDeletes:
        return PendingDeletes()


def _resolved_properties(
    context: Context, operation: Operation, logical_id: str, definition: dict[str, Any], previous: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The properties with intrinsics and dynamic references resolved, and the values of the latter."""
    resolved = context.resolve(definition.get("Properties") or {}, context.stack["_resources"])
    resolved = {key: value for key, value in resolved.items() if value is not engine._NO_VALUE}
    before: Stack = operation["previous_stack"] or {}
    same_stack = (
        bool(before)
        and context.template == before.get("_template")
        and (context.parameters == before.get("_resolved_params"))
    )
    old_definitions = (before.get("_template") or {}).get("Resources") or {}
    properties, dynamic = engine._resolve_dynamic_references(
        resolved,
        (previous or {}).get("_dynamic"),
        reuse_ssm=same_stack,
        reuse_secrets=previous is not None and old_definitions.get(logical_id) == definition,
    )
    return dict(properties), dict(dynamic or {})


def _outputs(context: Context, previous_stack: Stack | None) -> tuple[list[Any], dict[str, Any]]:
    """The stack's outputs and exports. Raises ValueError in AWS's words where an export cannot be made or changed."""
    surviving = {name: record for name, record in context.stack["_resources"].items() if name in context.definitions}
    outputs, exports = stacks._resolve_stack_outputs(
        context.template.get("Outputs") or {},
        context.conditions,
        surviving,
        context.parameters,
        context.mappings,
        context.name,
        context.id,
    )
    for name in exports:
        holder = records._exports.get(name)
        if holder and holder["StackId"] != context.id:
            other = holder["StackId"].split("/")[1]
            raise ValueError(
                f"Export with name {name} is already exported by stack {other}. Rollback requested by user."
            )
    for output in (previous_stack or {}).get("Outputs") or []:
        name = output.get("ExportName")
        if not name or (name in exports and exports[name]["Value"] == output["OutputValue"]):
            continue
        users = importing_stacks(name, context.name)
        if users:
            what = "updated" if name in exports else "deleted"
            raise ValueError(f"Export {name} cannot be {what} as it is in use by {', '.join(users)}")
    return list(outputs), dict(exports)


def importing_stacks(export_name: str, exporting_stack: str) -> list[str]:
    """The names of the other stacks that import an export."""
    return sorted(
        name
        for name, stack in records._stacks.items()
        if name != exporting_stack
        and stack.get("StackStatus") not in ("DELETE_COMPLETE", "REVIEW_IN_PROGRESS")
        and export_name in handlers._imported_export_names(stack, name)
    )


def _replace_exports(stack_id: str, exports: dict[str, Any]) -> None:
    for name in [name for name, export in records._exports.items() if export["StackId"] == stack_id]:
        del records._exports[name]
    records._exports.update(exports)


async def _clean_up_after_update(context: Context, operation: Operation) -> None:
    """Delete what the update removed or replaced, dependents first. A failure here does not fail the update."""
    previous: Stack = operation["previous_stack"]
    old_resources: dict[str, Any] = previous.get("_resources") or {}
    old = Context(context.stack, previous.get("_template") or {}, previous.get("_resolved_params") or {})
    replaced = {name for name, step in operation["steps"].items() if step["action"] == "replace"}
    removed = set(old_resources) - set(context.definitions)
    steps = {name: {"type": old_resources[name]["ResourceType"], "state": "done"} for name in replaced | removed}

    async def clean_up(name: str) -> None:
        record = old_resources[name]
        attribute = "UpdateReplacePolicy" if name in replaced else "DeletionPolicy"
        policy_of = context if name in replaced else old
        for function, arguments, keywords in operation.get("_pending_deletes", {}).get(name, ()):
            function(*arguments, **keywords)
        current = context.stack["_resources"].get(name)
        if name in replaced and current and current["PhysicalResourceId"] == record["PhysicalResourceId"]:
            return
        await _delete(context, name, record, policy_of.policy(name, attribute, old_resources))
        if name in removed:
            context.stack["_resources"].pop(name, None)

    dependencies = {**{name: set() for name in steps}, **old.dependencies(steps)}
    outcome = await run_in_order(reversed_dependencies(dependencies), clean_up, keep_going=True)
    for name, error in outcome.failed.items():
        logger.error("clean-up of %s in %s failed: %s", name, context.name, error)
        record = context.stack["_resources"].get(name) if name in removed else None
        if record is not None:
            record.update(ResourceStatus="DELETE_FAILED", ResourceStatusReason=str(error), Timestamp=now_iso())


async def _delete(context: Context, logical_id: str, record: Mapping[str, Any], policy: str) -> None:
    """Delete one resource as its policy says, with the events of it."""
    resource_type, physical_id = record["ResourceType"], record.get("PhysicalResourceId", "")
    if policy in RETAINING_POLICIES:
        context.event(logical_id, resource_type, "DELETE_SKIPPED", physical_id=physical_id)
        return
    context.event(logical_id, resource_type, "DELETE_IN_PROGRESS", physical_id=physical_id)
    properties = record.get("Properties") or {}
    try:
        await provisioning.breathe()
        if policy == "Snapshot":
            await provisioning.snapshot(resource_type, physical_id, properties)
        await provisioning.delete(resource_type, logical_id, physical_id, properties, context.name)
    except Exception as error:
        logger.error("cannot delete %s (%s) of %s: %s", logical_id, physical_id, context.name, error)
        context.event(logical_id, resource_type, "DELETE_FAILED", str(error), physical_id)
        raise
    context.event(logical_id, resource_type, "DELETE_COMPLETE", physical_id=physical_id)


# --- failure and rollback ------------------------------------------------------------------------------------------


_FAILED_STATUS = {"create": "CREATE_FAILED", "import": "IMPORT_FAILED"}


def _record_failures(context: Context, operation: Operation, outcome: Outcome) -> None:
    for name, error in outcome.failed.items():
        step = operation["steps"][name]
        logger.error("%s (%s) of %s failed: %s", name, step["type"], context.name, error)
        status = _FAILED_STATUS.get(step["action"], "UPDATE_FAILED")
        context.event(name, step["type"], status, str(error), step.get("physical_id", ""))
    for name in outcome.cancelled:
        if step := operation["steps"].get(name):
            status = _FAILED_STATUS.get(step["action"], "UPDATE_FAILED")
            what = "creation" if status == "CREATE_FAILED" else "update"
            context.event(name, step["type"], status, f"Resource {what} cancelled", step.get("physical_id", ""))


def _failure_reason(operation: Operation, outcome: Outcome) -> str:
    if outcome.was_stopped and not outcome.failed:
        return "User Initiated"
    unfinished = sorted({*outcome.failed, *outcome.cancelled} & set(operation["steps"]))
    created = [name for name in unfinished if operation["steps"][name]["action"] in ("create", "import")]
    updated = [name for name in unfinished if name not in created]
    parts = []
    if created:
        parts.append(f"The following resource(s) failed to create: [{', '.join(created)}]. ")
    if updated:
        parts.append(f"The following resource(s) failed to update: [{', '.join(updated)}]. ")
    if not operation["is_update"]:
        parts.append("Rollback requested by user.")
    return "".join(parts)


async def _fail(context: Context, operation: Operation, reason: str, *, is_output: bool = False) -> None:
    """Roll back, or leave the stack as it failed where that was asked for."""
    verb = "UPDATE" if operation["is_update"] else "CREATE"
    stack = context.stack
    if operation["disable_rollback"]:
        stack.pop("_operation", None)
        stack["_failed_operation"] = operation
        context.stack_event(f"{verb}_FAILED", reason)
        return
    if is_output:
        context.event(context.name, STACK_TYPE, f"{verb}_FAILED", reason, context.id)
    await roll_back(context.name, context.id, stack, operation, reason)


async def roll_back(
    stack_name: str,  # noqa: ARG001 (MiniStack's signature)
    stack_id: str,
    stack: Stack,
    operation: Operation,
    reason_override: str = "",
) -> None:
    """Undo an operation, as far as its steps say it came. In place of MiniStack's `_roll_back_operation`.

    Changed resources go back to their previous properties, in dependency order; then what the operation made is
    deleted. Steps that are undone are marked, so that a rollback can be continued.
    """
    stack.pop("_failed_operation", None)
    stack["_operation"] = operation
    operation.setdefault("steps", {})
    previous: Stack | None = operation.get("previous_stack") if operation.get("is_update") else None
    context = Context(stack, operation.get("template") or {}, operation.get("param_values") or {})
    context.stack_event(
        "UPDATE_ROLLBACK_IN_PROGRESS" if previous is not None else "ROLLBACK_IN_PROGRESS", reason_override
    )
    if previous is not None:
        failed = await _revert_changes(context, operation, previous)
        if failed:
            _rollback_failed(context, operation, failed, "UPDATE_ROLLBACK_FAILED", "update")
            return
        _restore_record(stack, previous)
        _replace_exports(stack_id, _exports_of(stack))
        context.stack_event("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
    failed = await _delete_made(context, operation)
    if failed and previous is None:
        _rollback_failed(context, operation, failed, "ROLLBACK_FAILED", "delete")
        return
    stack.pop("_operation", None)
    context.stack_event("UPDATE_ROLLBACK_COMPLETE" if previous is not None else "ROLLBACK_COMPLETE")


async def _revert_changes(context: Context, operation: Operation, previous: Stack) -> list[str]:
    """Send changed resources back to their previous properties; the names of those that would not go."""
    steps: dict[str, Step] = operation["steps"]
    old_resources: dict[str, Any] = previous["_resources"]

    def was_touched(step: Step) -> bool:
        if step["action"] not in ("update", "refused") or "old" not in step:
            return False
        return step["state"] in ("done", "failed", "cancelled", "in progress", "revert failed")

    async def revert(name: str) -> None:
        step = steps[name]
        record = old_resources[name]
        if step["action"] == "refused" or (
            step["state"] == "failed" and not provisioning.is_sent_back_after_failure(step["type"])
        ):
            context.event(name, step["type"], "UPDATE_COMPLETE", physical_id=step["old_physical_id"])
            step["state"] = "reverted"
            return
        context.event(name, step["type"], "UPDATE_IN_PROGRESS", physical_id=step["physical_id"])
        try:
            made = await provisioning.update(
                step["type"],
                name,
                step["physical_id"],
                step["new"],
                step["old"],
                record.get("Attributes") or {},
                context.name,
                name_seed=record.get("_name_seed", ""),
                retains_replaced=False,
                announced=lambda _: None,
            )
        except Exception as error:
            step["state"] = "revert failed"
            context.event(name, step["type"], "UPDATE_FAILED", str(error), step["physical_id"])
            raise
        step["state"] = "reverted"
        record.update(
            PhysicalResourceId=made.physical_id,
            Attributes={**(record.get("Attributes") or {}), **made.attributes},
            ResourceStatus="UPDATE_COMPLETE",
            Timestamp=now_iso(),
        )
        context.event(name, step["type"], "UPDATE_COMPLETE", physical_id=made.physical_id)

    touched = {name for name, step in steps.items() if was_touched(step)}
    old = Context(context.stack, previous.get("_template") or {}, previous.get("_resolved_params") or {})
    outcome = await run_in_order(
        {**{name: set() for name in touched}, **old.dependencies(touched)}, revert, keep_going=True
    )
    return sorted(touched - outcome.done)


async def _delete_made(context: Context, operation: Operation) -> list[str]:
    """Delete what the operation made, dependents first; the names of what could not be deleted."""
    steps: dict[str, Step] = operation["steps"]
    resources: dict[str, Any] = context.stack["_resources"]
    is_update = bool(operation.get("is_update"))
    made = {
        name
        for name, step in steps.items()
        if step["action"] in ("create", "replace")
        and step.get("physical_id")
        and step["physical_id"] != step.get("old_physical_id")
        and step["state"] != "deleted"
    }

    async def delete_one(name: str) -> None:
        step = steps[name]
        policy = context.policy(name, "DeletionPolicy", resources)
        if policy == "RetainExceptOnCreate" or (policy == "Retain" and operation.get("retain_except_on_create")):
            policy = "Delete"
        if policy == "Snapshot":
            # What was made a moment ago holds no data: AWS takes no snapshot in the rollback of a creation.
            policy = "Delete"
        record = {"ResourceType": step["type"], "PhysicalResourceId": step["physical_id"], "Properties": step["new"]}
        await _delete(context, name, record, policy)
        step["state"] = "deleted"
        if not is_update:
            resources.pop(name, None)

    outcome = await run_in_order(
        reversed_dependencies({**{name: set() for name in made}, **context.dependencies(made)}),
        delete_one,
        keep_going=True,
    )
    for name in operation.get("imports") or {}:
        step = steps.get(name)
        if step and step["action"] == "import" and step["state"] == "done":
            # An imported resource leaves the stack as it came.
            step["state"] = "deleted"
            for status in ("IMPORT_ROLLBACK_IN_PROGRESS", "IMPORT_ROLLBACK_COMPLETE"):
                context.event(name, step["type"], status, physical_id=step["physical_id"])
            if not is_update:
                resources.pop(name, None)
    return sorted(made - outcome.done)


def _rollback_failed(context: Context, operation: Operation, failed: Collection[str], status: str, verb: str) -> None:
    context.stack.pop("_operation", None)
    context.stack["_rollback_failed"] = {name: {"ResourceType": operation["steps"][name]["type"]} for name in failed}
    context.stack["_rollback_operation"] = operation
    context.stack_event(status, f"The following resource(s) failed to {verb}: [{', '.join(sorted(failed))}]. ")


async def continue_rollback(stack_name: str, stack_id: str, resources_to_skip: Collection[str]) -> None:
    """ContinueUpdateRollback: try again what failed, but for what is skipped, which keeps its state."""
    stack: Stack | None = records._stacks.get(stack_name)
    if not stack:
        return
    operation = stack.pop("_rollback_operation", {})
    stack.pop("_rollback_failed", None)
    for name in resources_to_skip:
        step = operation["steps"][name]
        step["state"] = "skipped"
        stacks._add_event(
            stack_id,
            stack_name,
            name,
            step["type"],
            "UPDATE_COMPLETE",
            "Resource rollback skipped by user",
            step.get("physical_id", ""),
        )
    await roll_back(stack_name, stack_id, stack, operation, "User Initiated")


def _restore_record(stack: Stack, previous: Stack) -> None:
    """Make the stack report again what it ran before the update."""
    for key in (
        "_resources",
        "_template",
        "_template_body",
        "_resolved_params",
        "_conditions",
        "Parameters",
        "Tags",
        "Outputs",
    ):
        if key in previous:
            stack[key] = previous[key]


def _keep_unfinished(context: Context, operation: Operation) -> None:
    """Put what a stopped creation had begun into the stack's resources, for its deletion."""
    for name, step in operation["steps"].items():
        if step.get("physical_id") and name not in context.stack["_resources"]:
            context.stack["_resources"][name] = {
                "PhysicalResourceId": step["physical_id"],
                "ResourceType": step["type"],
                "LogicalResourceId": name,
                "ResourceStatus": "CREATE_FAILED",
                "Properties": step["new"],
                "Attributes": {},
                "Timestamp": now_iso(),
            }


def _exports_of(stack: Stack) -> dict[str, Any]:
    return {
        output["ExportName"]: {
            "StackId": stack["StackId"],
            "Name": output["ExportName"],
            "Value": output["OutputValue"],
        }
        for output in stack.get("Outputs") or []
        if output.get("ExportName")
    }


# --- delete --------------------------------------------------------------------------------------------------------


async def delete_stack(
    stack_name: str, stack_id: str, retain_resources: Collection[str] = (), force: bool = False
) -> None:
    """Delete a stack's resources, dependents first. In place of MiniStack's `_delete_stack_async`.

    With `force` (DeletionMode FORCE_DELETE_STACK), what cannot be deleted is retained with what it depends on.
    """
    stack: Stack | None = records._stacks.get(stack_name)
    if not stack or stack["StackId"] != stack_id:
        return
    if stack["StackStatus"] == "CREATE_IN_PROGRESS":
        # AWS stops a creation in order to delete the stack.
        stack["_delete_requested"] = True
        while "_operation" in stack:  # noqa: ASYNC110 (an entry of a record, not an event)
            await asyncio.sleep(STOP_POLL_SECONDS / 4)  # the operation's own loop looks as often
    stack.pop("_operation", None)
    context = Context(stack, stack.get("_template") or {}, stack.get("_resolved_params") or {})
    context.stack_event("DELETE_IN_PROGRESS")
    resources: dict[str, Any] = stack.get("_resources") or {}

    async def delete_one(name: str) -> None:
        policy = "Retain" if name in retain_resources else context.policy(name, "DeletionPolicy", resources)
        await _delete(context, name, resources[name], policy)
        del resources[name]

    try:
        dependencies = {**{name: set() for name in resources}, **context.dependencies(resources)}
    except ValueError:
        dependencies = {name: set() for name in resources}
    outcome = await run_in_order(reversed_dependencies(dependencies), delete_one, keep_going=True)
    if outcome.failed and not force:
        for name, error in outcome.failed.items():
            resources[name].update(ResourceStatus="DELETE_FAILED", ResourceStatusReason=str(error))
        context.stack_event(
            "DELETE_FAILED", f"The following resource(s) failed to delete: [{', '.join(sorted(outcome.failed))}]. "
        )
        return
    for name in list(resources):
        record = resources.pop(name)
        context.event(name, record["ResourceType"], "DELETE_SKIPPED", physical_id=record.get("PhysicalResourceId", ""))
    _replace_exports(stack_id, {})
    context.stack_event("DELETE_COMPLETE")
