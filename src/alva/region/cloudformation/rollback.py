"""Rolls back an operation from the steps in the stack's record."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from alva.region.cloudformation.context import Operation, OperationContext, Step, exports_of
from alva.region.cloudformation.deletion import delete_resource
from alva.region.cloudformation.graph import reversed_dependencies, run_in_order
from alva.region.cloudformation.provisioning import Provisioner
from alva.region.cloudformation.store import DESCRIBING, Stack, StackRecords, now


async def roll_back(
    records: StackRecords, provisioner: Provisioner, stack: Stack, operation: Operation, reason: str = ""
) -> None:
    """Roll back the steps that an operation has done.

    Changed resources return to their previous properties, in dependency order; then new resources are deleted. Each
    finished step is marked, so that a rollback can be continued.
    """
    stack.pop("_failed_operation", None)
    stack["_operation"] = operation
    operation.setdefault("steps", {})
    previous: Stack | None = operation.get("previous_stack") if operation.get("is_update") else None
    source, parameters = operation.get("template") or {}, operation.get("param_values") or {}
    context = OperationContext(records, provisioner, stack, source, parameters)
    context.stack_event("UPDATE_ROLLBACK_IN_PROGRESS" if previous is not None else "ROLLBACK_IN_PROGRESS", reason)
    if previous is not None:
        failed = await _revert_changes(context, operation, previous)
        if failed:
            _rollback_failed(context, operation, failed, "UPDATE_ROLLBACK_FAILED", "update")
            return
        restore_description(stack, previous)
        records.replace_exports(context.id, exports_of(stack))
        context.stack_event("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
    failed = await _delete_made(context, operation)
    if failed and previous is None:
        _rollback_failed(context, operation, failed, "ROLLBACK_FAILED", "delete")
        return
    stack.pop("_operation", None)
    context.stack_event("UPDATE_ROLLBACK_COMPLETE" if previous is not None else "ROLLBACK_COMPLETE")


async def _revert_changes(context: OperationContext, operation: Operation, previous: Stack) -> list[str]:
    """Return changed resources to their previous properties; returns the names of those that failed."""
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
            step["state"] == "failed" and not context.provisioner.is_reverted_after_failure(step["type"])
        ):
            context.event(name, step["type"], "UPDATE_COMPLETE", physical_id=step["old_physical_id"])
            step["state"] = "reverted"
            return
        context.event(name, step["type"], "UPDATE_IN_PROGRESS", physical_id=step["physical_id"])
        try:
            made = await context.provisioner.update(
                step["type"],
                name,
                step["physical_id"],
                step["new"],
                step["old"],
                context.name,
                name_seed=record.get("_name_seed", ""),
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
            Timestamp=now(),
        )
        context.event(name, step["type"], "UPDATE_COMPLETE", physical_id=made.physical_id)

    touched = {name for name, step in steps.items() if was_touched(step)}
    old = context.before(previous)
    outcome = await run_in_order(
        {**{name: set() for name in touched}, **old.dependencies(touched)}, revert, keep_going=True
    )
    return sorted(touched - outcome.done)


async def _delete_made(context: OperationContext, operation: Operation) -> list[str]:
    """Delete the operation's new resources, dependents first; returns the names of those that failed."""
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
            # A new resource holds no data: AWS takes no snapshot in the rollback of a creation.
            policy = "Delete"
        record = {"ResourceType": step["type"], "PhysicalResourceId": step["physical_id"], "Properties": step["new"]}
        await delete_resource(context, name, record, policy)
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
            # An imported resource is removed from the stack and not deleted.
            step["state"] = "deleted"
            for status in ("IMPORT_ROLLBACK_IN_PROGRESS", "IMPORT_ROLLBACK_COMPLETE"):
                context.event(name, step["type"], status, physical_id=step["physical_id"])
            if not is_update:
                resources.pop(name, None)
    return sorted(made - outcome.done)


def _rollback_failed(
    context: OperationContext, operation: Operation, failed: Collection[str], status: str, verb: str
) -> None:
    context.stack.pop("_operation", None)
    context.stack["_rollback_failed"] = {name: {"ResourceType": operation["steps"][name]["type"]} for name in failed}
    context.stack["_rollback_operation"] = operation
    context.stack_event(status, f"The following resource(s) failed to {verb}: [{', '.join(sorted(failed))}]. ")


async def continue_rollback(
    records: StackRecords, provisioner: Provisioner, stack: Stack, resources_to_skip: Collection[str]
) -> None:
    """ContinueUpdateRollback: retry the failed resources; those to skip keep their state."""
    operation = stack.pop("_rollback_operation", {})
    stack.pop("_rollback_failed", None)
    context = OperationContext(records, provisioner, stack)
    for name in resources_to_skip:
        step = operation["steps"][name]
        step["state"] = "skipped"
        reason, physical_id = "Resource rollback skipped by user", step.get("physical_id", "")
        context.event(name, step["type"], "UPDATE_COMPLETE", reason, physical_id)
    await roll_back(records, provisioner, stack, operation, "User Initiated")


def restore_description(stack: Stack, previous: Stack) -> None:
    """Restore the stack's description from before the update."""
    stack.update({key: previous[key] for key in DESCRIBING if key in previous})
