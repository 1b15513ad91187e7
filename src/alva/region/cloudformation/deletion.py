"""Deletes a stack's resources, dependents first, according to their deletion policies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any

from alva.region.cloudformation.context import RETAINING_POLICIES, OperationContext
from alva.region.cloudformation.graph import STOP_POLL_SECONDS, reversed_dependencies, run_in_order
from alva.region.cloudformation.provisioning import Provisioner, yield_to_requests
from alva.region.cloudformation.store import Stack, StackRecords

logger = logging.getLogger("alva.cloudformation")


async def delete_resource(context: OperationContext, logical_id: str, record: Mapping[str, Any], policy: str) -> None:
    """Delete one resource according to its policy, and record the events."""
    resource_type, physical_id = record["ResourceType"], record.get("PhysicalResourceId", "")
    if policy in RETAINING_POLICIES:
        context.event(logical_id, resource_type, "DELETE_SKIPPED", physical_id=physical_id)
        return
    context.event(logical_id, resource_type, "DELETE_IN_PROGRESS", physical_id=physical_id)
    properties = record.get("Properties") or {}
    try:
        await yield_to_requests()
        if policy == "Snapshot":
            await context.provisioner.snapshot(resource_type, physical_id, properties)
        await context.provisioner.delete(resource_type, physical_id, properties)
    except Exception as error:
        logger.error("cannot delete %s (%s) of %s: %s", logical_id, physical_id, context.name, error)
        context.event(logical_id, resource_type, "DELETE_FAILED", str(error), physical_id)
        raise
    context.event(logical_id, resource_type, "DELETE_COMPLETE", physical_id=physical_id)


async def delete_stack(
    records: StackRecords,
    provisioner: Provisioner,
    stack: Stack,
    retain_resources: Collection[str] = (),
    *,
    force: bool = False,
) -> None:
    """Delete a stack's resources, dependents first.

    With `force` (DeletionMode FORCE_DELETE_STACK), a resource that cannot be deleted is retained, with its
    dependencies.
    """
    if stack["StackStatus"] == "CREATE_IN_PROGRESS":
        # As on AWS, a running creation is stopped first.
        stack["_delete_requested"] = True
        while "_operation" in stack:  # noqa: ASYNC110 (an entry of a record, not an event)
            await asyncio.sleep(STOP_POLL_SECONDS / 4)  # as often as the operation's own loop
    stack.pop("_operation", None)
    context = OperationContext(records, provisioner, stack)
    creation = stack.get("_failed_operation") or {"is_update": True}
    if not creation["is_update"]:
        # A stack whose creation has not completed has no present template.
        context = OperationContext(records, provisioner, stack, creation["template"], creation["param_values"])
    context.stack_event("DELETE_IN_PROGRESS")
    resources: dict[str, Any] = stack.get("_resources") or {}

    async def delete_one(name: str) -> None:
        policy = "Retain" if name in retain_resources else context.policy(name, "DeletionPolicy", resources)
        await delete_resource(context, name, resources[name], policy)
        del resources[name]

    dependencies = {**{name: set() for name in resources}, **context.dependencies(resources)}
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
    records.replace_exports(context.id, {})
    context.stack_event("DELETE_COMPLETE")
