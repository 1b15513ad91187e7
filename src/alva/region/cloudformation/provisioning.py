"""Creates, updates and deletes one resource, through our handlers or MiniStack's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from alva.region.cloudformation import ministack_types, model_checks, registry
from alva.region.cloudformation.drift import Drift
from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.registry import Properties, Registry
from alva.region.cloudformation.replacement import is_replacement


@dataclass(frozen=True)
class Made:
    """The result of `create` or `update`."""

    physical_id: str
    attributes: dict[str, Any]
    name_seed: str = ""
    """MiniStack's seed of a generated name; kept in the resource's record."""


class Provisioner:
    """Creates, updates and deletes resources, through our handlers or MiniStack's."""

    def __init__(self, registered: Registry, changed: Callable[[], None] = lambda: None) -> None:
        self._types = registered.types
        self.drift = Drift(registered)
        self.changed = changed
        """Called after every step of an operation, to save the state."""

    @property
    def known_types(self) -> Collection[str]:
        """The resource types that this region can create."""
        return ministack_types.handlers().keys() | self._types.keys()

    def is_cancellable(self, resource_type: str) -> bool:
        """Whether a running step of this type can be cancelled: a coroutine can, a thread cannot."""
        handlers = self._types.get(resource_type)
        return handlers is not None and inspect.iscoroutinefunction(handlers.create)

    def is_reverted_after_failure(self, resource_type: str) -> bool:
        """Whether the rollback reverts a resource whose own update failed.

        Our handlers may have changed the resource before they failed (an ECS service has a new deployment). MiniStack's
        handlers change nothing.
        """
        return resource_type in self._types

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
            made, seed = ministack_types.create(resource_type, logical_id, properties, stack_name)
            return Made(*made, seed)
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
        stack_name: str,
        *,
        name_seed: str,
        announced: Callable[[str], None],
    ) -> Made:
        """Update a resource, or create its replacement (a new physical id). The clean-up deletes the predecessor."""
        model_checks.check(resource_type, new)
        if is_replacement(resource_type, old, new):
            return await self.create(resource_type, logical_id, new, stack_name, announced)
        handlers = self._types.get(resource_type)
        if handlers is None:
            await self._refuse_deleted(resource_type, physical_id, old)
            made = ministack_types.update(resource_type, logical_id, physical_id, old, new, stack_name, name_seed)
            return Made(*made, name_seed)
        new_id, new_attributes = await _call(handlers.update, physical_id, old, new, stack_name)
        return Made(new_id, new_attributes)

    async def delete(self, resource_type: str, physical_id: str, properties: Properties) -> None:
        """Delete a resource; one that no longer exists is no error."""
        handlers = self._types.get(resource_type)
        if handlers is None:
            ministack_types.delete(resource_type, physical_id, properties)
        else:
            await _call(handlers.delete, physical_id, properties)

    async def snapshot(self, resource_type: str, physical_id: str, properties: Properties) -> None:
        """Create the snapshot for the deletion policy Snapshot; a type without snapshots gets none, as on AWS."""
        handlers = self._types.get(resource_type)
        if handlers is not None and handlers.snapshot is not None:
            await _call(handlers.snapshot, physical_id, properties)

    async def _refuse_deleted(self, resource_type: str, physical_id: str, properties: Properties) -> None:
        """Refuse to update a resource that was deleted outside the stack; MiniStack would create it again.

        Applies to the types with drift detection. Raises HandlerFailed in CloudFormation's words.
        """
        if await self.drift.is_deleted(resource_type, physical_id, properties):
            raise HandlerFailed(
                f"Resource of type '{resource_type}' with identifier '{physical_id}' was not found.", "NotFound"
            )


async def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    result = function(*arguments)
    return await result if inspect.isawaitable(result) else result


async def yield_to_requests() -> None:
    """Let the event loop serve requests between two resources."""
    await asyncio.sleep(0)
