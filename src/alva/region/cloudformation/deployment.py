"""Creates and updates a stack. A resource starts as soon as its dependencies are done.

An operation keeps its progress in the stack's record. Every rollback works from it alone: after a failure, in a later
`RollbackStack` or `ContinueUpdateRollback`, and after the region was killed.

Statuses, events and reasons: AWS CloudFormation User Guide, "View stack events" and "Stack failure options".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from alva.region.cloudformation import (
    drift,
    dynamic_references,
    events,
    imports,
    provisioning,
    replacement,
    schemas,
)
from alva.region.cloudformation.context import (
    STACK_TYPE,
    Operation,
    OperationContext,
    Step,
    importing_stacks,
)
from alva.region.cloudformation.deletion import delete_resource
from alva.region.cloudformation.errors import Refused
from alva.region.cloudformation.graph import Outcome, reversed_dependencies, run_in_order
from alva.region.cloudformation.provisioning import Provisioner
from alva.region.cloudformation.rollback import roll_back
from alva.region.cloudformation.store import Stack, StackRecords, now
from alva.region.cloudformation.submissions import Submission

logger = logging.getLogger("alva.cloudformation")

REPLACEMENT_REASON = "Requested update requires the creation of a new physical resource; hence creating one."
_FAILED_STATUS = {"create": "CREATE_FAILED", "import": "IMPORT_FAILED"}


def new_operation(
    stack: Stack,
    submission: Submission,
    previous: Stack | None,
    *,
    disable_rollback: bool,
    retain_except_on_create: bool,
    imports: dict[str, Any],
    drifted: Mapping[str, drift.Drifted],
) -> Operation:
    """The record of an operation, which its rollback uses too. `previous` is the description that it updates."""
    return {
        "is_update": previous is not None,
        "previous_stack": previous,
        "template": submission.template,
        "param_values": submission.parameters,
        "retain_except_on_create": retain_except_on_create,
        "stack_tags": list(stack.get("Tags") or []),
        "previous_tags": list((previous or {}).get("Tags") or []),
        "imports": imports,
        "drifted": {name: {"status": each.status, "actual": each.actual} for name, each in drifted.items()},
        "disable_rollback": disable_rollback,
        "steps": {},
    }


async def deploy(records: StackRecords, provisioner: Provisioner, stack: Stack, operation: Operation) -> None:
    """Create or update a stack, and roll it back if that fails."""
    for leftover in ("_failed_operation", "_rollback_failed", "_cancel_requested", "_cancel_token"):
        stack.pop(leftover, None)
    stack["_operation"] = operation
    is_update, previous = operation["is_update"], operation["previous_stack"]
    verb = "UPDATE" if is_update else "CREATE"
    context = OperationContext(records, provisioner, stack, operation["template"], operation["param_values"])
    dependencies = context.dependencies()
    outcome = await run_in_order(
        dependencies,
        lambda name: _provision(context, operation, name),
        may_cancel=lambda name: provisioner.is_cancellable(context.definitions[name].get("Type", "")),
        stop_requested=lambda: bool(stack.get("_cancel_requested") if is_update else stack.get("_delete_requested")),
    )
    _record_failures(context, operation, outcome)
    if stack.get("_delete_requested"):
        _keep_unfinished(context, operation)
        stack["_failed_operation"] = stack.pop("_operation")
        return
    if outcome.failed or outcome.was_stopped:
        if outcome.was_stopped:
            events.client_request_token.set(stack.pop("_cancel_token", ""))
        await _fail(context, operation, _failure_reason(operation, outcome))
        return
    try:
        outputs, exports = _outputs(context, previous)
    except Exception as error:
        await _fail(context, operation, str(error), is_output=True)
        return
    stack["_template"] = context.template
    stack["Outputs"] = outputs
    context.records.replace_exports(context.id, exports)
    if is_update:
        context.stack_event("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        await _clean_up_after_update(context, operation)
    stack.pop("_operation", None)
    context.stack_event(f"{verb}_COMPLETE")


async def _provision(context: OperationContext, operation: Operation, logical_id: str) -> None:
    """Create or update one resource, and record its progress. Raises what its handler raises."""
    await provisioning.yield_to_requests()
    stack, definition = context.stack, context.definitions[logical_id]
    resource_type = definition.get("Type", "AWS::CloudFormation::CustomResource")
    resources: dict[str, Any] = stack["_resources"]
    previous = ((operation["previous_stack"] or {}).get("_resources") or {}).get(logical_id)
    drifted = operation["drifted"].get(logical_id, {})
    if drifted.get("status") == "DELETED":
        previous = None
    # A resource that an update adds has the events of a creation.
    verb = "UPDATE" if previous else "CREATE"
    step: Step = {"type": resource_type, "action": "update" if previous else "create", "state": "in progress"}
    operation["steps"][logical_id] = step
    try:
        properties, dynamic = _resolved_properties(context, operation, logical_id, definition, previous)
        if problems := schemas.problems(resource_type, properties):
            # AWS too validates the properties against the type's schema before it calls the handler.
            listed = "\n".join(problems)
            raise Refused(f"Properties validation failed for resource {logical_id} with message:\n[{listed}]")
        new = context.with_tags(resource_type, logical_id, properties, operation["stack_tags"])
        step["new"] = new

        def announced(physical_id: str) -> None:
            step["physical_id"] = physical_id
            context.event(logical_id, resource_type, f"{verb}_IN_PROGRESS", "Resource creation Initiated", physical_id)

        if previous:
            old = context.with_tags(
                resource_type, logical_id, previous.get("Properties") or {}, operation["previous_tags"]
            )
            old = {**old, **drifted.get("actual", {})}
            if old == new and previous.get("ResourceType") == resource_type:
                # The resource is unchanged: AWS neither updates it nor records an event.
                resources[logical_id] = {**previous, "Properties": properties}
                step["state"] = "unchanged"
                return
            made = await _change(context, operation, logical_id, resource_type, previous, old, new, announced)
        else:
            context.event(logical_id, resource_type, f"{verb}_IN_PROGRESS")
            identifier = operation["imports"].get(logical_id)
            if identifier is not None:
                step["action"] = "import"
                made = await adopt(context, logical_id, resource_type, identifier)
            else:
                await imports.refuse_existing(resource_type, new)
                made = await context.provisioner.create(resource_type, logical_id, new, context.name, announced)
        step["physical_id"] = made.physical_id
        step["state"] = "done"
        resources[logical_id] = {
            "PhysicalResourceId": made.physical_id,
            "ResourceType": resource_type,
            "ResourceStatus": "UPDATE_COMPLETE" if step["action"] == "import" else f"{verb}_COMPLETE",
            "LogicalResourceId": logical_id,
            "Properties": properties,
            "Attributes": made.attributes,
            "Timestamp": now(),
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


async def adopt(
    context: OperationContext, logical_id: str, resource_type: str, identifier: dict[str, str]
) -> provisioning.Made:
    """Import an existing resource into the stack, and record the events. Raises HandlerFailed where there is none."""
    context.event(logical_id, resource_type, "IMPORT_IN_PROGRESS", "Resource import started.")
    physical_id, attributes = await imports.adopt(resource_type, next(iter(identifier.values())))
    for status, reason in (
        ("IMPORT_IN_PROGRESS", ""),
        ("IMPORT_COMPLETE", "Resource import completed."),
        ("UPDATE_IN_PROGRESS", "Apply stack-level tags to imported resource if applicable."),
        ("UPDATE_COMPLETE", ""),
    ):
        context.event(logical_id, resource_type, status, reason, physical_id)
    return provisioning.Made(physical_id, attributes)


async def _change(
    context: OperationContext,
    operation: Operation,
    logical_id: str,
    resource_type: str,
    previous: dict[str, Any],
    old: dict[str, Any],
    new: dict[str, Any],
    announced: Callable[[str], None],
) -> provisioning.Made:
    """Update a resource in place, or create its replacement."""
    step = operation["steps"][logical_id]
    physical_id = previous["PhysicalResourceId"]
    if previous.get("ResourceType") != resource_type:
        raise Refused(
            "Update of resource type is not permitted. The new template modifies resource type of the "
            f"following resources: [{logical_id}]"
        )
    step.update(old=old, old_physical_id=physical_id)
    refused = replacement.refusal(resource_type, physical_id, old, new)
    if not refused and replacement.is_replacement(resource_type, old, new):
        step["action"] = "replace"
        context.event(logical_id, resource_type, "UPDATE_IN_PROGRESS", REPLACEMENT_REASON, physical_id)
        await imports.refuse_existing(resource_type, new)
    else:
        step["physical_id"] = physical_id
        context.event(logical_id, resource_type, "UPDATE_IN_PROGRESS", physical_id=physical_id)
    if refused:
        step["action"] = "refused"
        raise Refused(refused)
    made = await context.provisioner.update(
        resource_type,
        logical_id,
        physical_id,
        old,
        new,
        context.name,
        name_seed=previous.get("_name_seed", ""),
        announced=announced,
    )
    if made.physical_id != physical_id:
        step["action"] = "replace"
    return made


def _resolved_properties(
    context: OperationContext,
    operation: Operation,
    logical_id: str,
    definition: dict[str, Any],
    previous: dict[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The properties with functions and dynamic references resolved, and the values of the dynamic references."""
    resolved = context.resolve(definition.get("Properties") or {}, context.stack["_resources"])
    before: Stack = operation["previous_stack"] or {}
    same_stack = (
        bool(before)
        and context.template == before.get("_template")
        and (context.parameters == before.get("_resolved_params"))
    )
    old_definitions = (before.get("_template") or {}).get("Resources") or {}
    return dynamic_references.resolve(
        resolved,
        (previous or {}).get("_dynamic") or {},
        reuse_parameters=same_stack,
        reuse_secrets=previous is not None and old_definitions.get(logical_id) == definition,
    )


def _outputs(context: OperationContext, previous_stack: Stack | None) -> tuple[list[Any], dict[str, Any]]:
    """The stack's outputs and exports. Raises Refused where an export cannot be made or changed."""
    surviving = {name: record for name, record in context.stack["_resources"].items() if name in context.definitions}
    outputs, exports = context.outputs(surviving)
    for name in exports:
        holder = context.records.exports.get(name)
        if holder and holder["StackId"] != context.id:
            other = holder["StackId"].split("/")[1]
            raise Refused(f"Export with name {name} is already exported by stack {other}. Rollback requested by user.")
    for output in (previous_stack or {}).get("Outputs") or []:
        name = output.get("ExportName")
        if not name or (name in exports and exports[name]["Value"] == output["OutputValue"]):
            continue
        users = importing_stacks(context.records, name, context.name)
        if users:
            what = "updated" if name in exports else "deleted"
            raise Refused(f"Export {name} cannot be {what} as it is in use by {', '.join(users)}")
    return outputs, exports


async def _clean_up_after_update(context: OperationContext, operation: Operation) -> None:
    """Delete what the update removed or replaced, dependents first. A failure here does not fail the update."""
    previous: Stack = operation["previous_stack"]
    old_resources: dict[str, Any] = previous.get("_resources") or {}
    old = context.before(previous)
    replaced = {name for name, step in operation["steps"].items() if step["action"] == "replace"}
    removed = set(old_resources) - set(context.definitions)
    steps = {name: {"type": old_resources[name]["ResourceType"], "state": "done"} for name in replaced | removed}

    async def clean_up(name: str) -> None:
        record = old_resources[name]
        attribute = "UpdateReplacePolicy" if name in replaced else "DeletionPolicy"
        policy_of = context if name in replaced else old
        current = context.stack["_resources"].get(name)
        if name in replaced and current and current["PhysicalResourceId"] == record["PhysicalResourceId"]:
            return
        await delete_resource(context, name, record, policy_of.policy(name, attribute, old_resources))
        if name in removed:
            context.stack["_resources"].pop(name, None)

    dependencies = {**{name: set() for name in steps}, **old.dependencies(steps)}
    outcome = await run_in_order(reversed_dependencies(dependencies), clean_up, keep_going=True)
    for name, error in outcome.failed.items():
        logger.error("clean-up of %s in %s failed: %s", name, context.name, error)
        record = context.stack["_resources"].get(name) if name in removed else None
        if record is not None:
            record.update(ResourceStatus="DELETE_FAILED", ResourceStatusReason=str(error), Timestamp=now())


def _record_failures(context: OperationContext, operation: Operation, outcome: Outcome) -> None:
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


async def _fail(context: OperationContext, operation: Operation, reason: str, *, is_output: bool = False) -> None:
    """Roll back, or keep the failed state if the request disables the rollback."""
    verb = "UPDATE" if operation["is_update"] else "CREATE"
    stack = context.stack
    if operation["disable_rollback"]:
        stack.pop("_operation", None)
        stack["_failed_operation"] = operation
        context.stack_event(f"{verb}_FAILED", reason)
        return
    if is_output:
        context.event(context.name, STACK_TYPE, f"{verb}_FAILED", reason, context.id)
    await roll_back(context.records, context.provisioner, stack, operation, reason)


def _keep_unfinished(context: OperationContext, operation: Operation) -> None:
    """Add the resources that a stopped creation had begun to the stack's resources, so that they are deleted."""
    for name, step in operation["steps"].items():
        if step.get("physical_id") and name not in context.stack["_resources"]:
            context.stack["_resources"][name] = {
                "PhysicalResourceId": step["physical_id"],
                "ResourceType": step["type"],
                "LogicalResourceId": name,
                "ResourceStatus": "CREATE_FAILED",
                "Properties": step["new"],
                "Attributes": {},
                "Timestamp": now(),
            }
