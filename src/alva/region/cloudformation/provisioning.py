"""Creates, updates and deletes one resource, through our handlers or MiniStack's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ministack.core.concurrency import run_reentrant
from ministack.services.cloudformation import provisioners, stacks

from alva.region.cloudformation import drift, model_checks, registry
from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.registry import Handlers, Properties


@dataclass(frozen=True)
class Made:
    """The result of `create` or `update`."""

    physical_id: str
    attributes: dict[str, Any]
    name_seed: str = ""
    """MiniStack's seed of a generated name; kept in the resource's record."""
    pending_deletes: list[tuple[Callable[..., None], tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    """Deletions of a predecessor that MiniStack's handler left to the clean-up phase."""


class Provisioner:
    """Creates, updates and deletes resources, through our handlers or MiniStack's."""

    def __init__(self, types: Mapping[str, Handlers], changed: Callable[[], None] = lambda: None) -> None:
        self._types = types
        self.changed = changed
        """Called after every step of an operation, to save the state."""

    def is_cancellable(self, resource_type: str) -> bool:
        """Whether a running step of this type can be cancelled: a coroutine can, a thread cannot."""
        handlers = self._types.get(resource_type)
        return handlers is not None and inspect.iscoroutinefunction(handlers.create)

    def is_reverted_after_failure(self, resource_type: str) -> bool:
        """Whether the rollback reverts a resource whose own update failed.

        Our handlers may have changed the resource before they failed (an ECS service has a new deployment). MiniStack's
        handlers change nothing, or declare that they do.
        """
        return resource_type in self._types or bool(stacks._sends_back_failed_update(resource_type))

    async def create(
        self,
        resource_type: str,
        logical_id: str,
        properties: Properties,
        stack_name: str,
        announced: Callable[[str], None],
    ) -> Made:
        """Create a resource. Raises what its handler raises; the text is the reason in the event."""
        model_checks.check(resource_type, properties)
        handlers = self._types.get(resource_type)
        if handlers is None:
            if stacks._runs_on_worker_thread(resource_type):
                made, seed = await run_reentrant(
                    stacks._provision_keeping_seed, resource_type, logical_id, properties, stack_name
                )
            else:
                made, seed = stacks._provision_keeping_seed(resource_type, logical_id, properties, stack_name)
            return Made(made[0], made[1], seed)
        token = registry._announcement.set(announced)
        try:
            physical_id, attributes = await _call(handlers.create, logical_id, properties, stack_name)
        finally:
            registry._announcement.reset(token)
        return Made(physical_id, attributes)

    async def update(
        self,
        resource_type: str,
        logical_id: str,
        physical_id: str,
        old: Properties,
        new: Properties,
        attributes: dict[str, Any],
        stack_name: str,
        *,
        name_seed: str,
        retains_replaced: bool,
        announced: Callable[[str], None],
    ) -> Made:
        """Update a resource, or create its replacement (a new physical id). The clean-up deletes the predecessor."""
        model_checks.check(resource_type, new)
        handlers = self._types.get(resource_type)
        if handlers is None:
            await _refuse_deleted(resource_type, physical_id, old)
            pending: list[tuple[Callable[..., None], tuple[Any, ...], dict[str, Any]]] = []
            # Each resource has a task of its own, so these context variables affect no other resource.
            provisioners._RETAIN_REPLACED.set(retains_replaced)
            provisioners._DEFERRED_PREDECESSOR_DELETES.set(pending)
            provisioners._NAME_SEED.set(name_seed)
            arguments = (resource_type, physical_id, old, new, stack_name, logical_id, attributes)
            if stacks._runs_on_worker_thread(resource_type):
                made, seed = await run_reentrant(stacks._update_keeping_seed, *arguments)
            else:
                made, seed = stacks._update_keeping_seed(*arguments)
            return Made(made[0], made[1], seed, pending)
        if is_replacement(resource_type, old, new):
            return await self.create(resource_type, logical_id, new, stack_name, announced)
        new_id, new_attributes = await _call(handlers.update, physical_id, old, new, stack_name)
        return Made(new_id, new_attributes)

    async def delete(
        self, resource_type: str, logical_id: str, physical_id: str, properties: Properties, stack_name: str
    ) -> None:
        """Delete a resource; one that no longer exists is no error."""
        handlers = self._types.get(resource_type)
        if handlers is not None:
            await _call(handlers.delete, physical_id, properties)
        elif stacks._runs_on_worker_thread(resource_type):
            await run_reentrant(
                provisioners._delete_resource, resource_type, physical_id, properties, stack_name, logical_id
            )
        else:
            provisioners._delete_resource(resource_type, physical_id, properties, stack_name, logical_id)

    async def snapshot(self, resource_type: str, physical_id: str, properties: Properties) -> None:
        """Create the snapshot for the deletion policy Snapshot; a type without snapshots gets none, as on AWS."""
        handlers = self._types.get(resource_type)
        if handlers is None:
            provisioners._snapshot_resource(resource_type, physical_id, properties)
        elif handlers.snapshot is not None:
            await _call(handlers.snapshot, physical_id, properties)


async def _refuse_deleted(resource_type: str, physical_id: str, properties: Properties) -> None:
    """Refuse to update a resource that was deleted outside the stack; MiniStack would create it again.

    Applies to the types with drift detection. Raises HandlerFailed in CloudFormation's words.
    """
    if await drift.is_deleted(resource_type, physical_id, properties):
        raise HandlerFailed(
            f"Resource of type '{resource_type}' with identifier '{physical_id}' was not found.", "NotFound"
        )


def is_replacement(resource_type: str, old: Properties, new: Properties) -> bool:
    """Whether a changed property is one that "requires: Replacement"."""
    return bool(provisioners._replacing_change(resource_type, old, new))


async def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    result = function(*arguments)
    return await result if inspect.isawaitable(result) else result


async def yield_to_requests() -> None:
    """Let the event loop serve requests between two resources."""
    await asyncio.sleep(0)
