"""The CloudFormation resource types that the region adds to MiniStack or replaces in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

Properties = dict[str, Any]
Reader = Callable[[str, Properties], Properties | Awaitable[Properties | None] | None]
"""(physical id, the template's properties) -> the current properties in the form of a template, or None for a deleted
resource. A ServiceError for a missing resource stands for a deleted one too.
"""
Provisioned = tuple[str, dict[str, Any]]
"""The physical id, which `Ref` returns, and the attributes, which `Fn::GetAtt` returns."""


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """How a resource type is created, updated and deleted. An exception fails the resource; its text is the reason.

    `create(logical_id, properties, stack_name)` returns the physical id and the attributes.
    `update(physical_id, old, new, stack_name)` returns the same; another physical id means that the resource was
    replaced, and the clean-up phase deletes the predecessor. It is called only when properties changed. A rollback
    calls it with the properties swapped, also for the resource whose update failed. `delete(physical_id, properties)`
    must accept a resource that no longer exists.

    Each may be a plain function or a coroutine function. A coroutine function runs on the region's event loop in
    parallel with other resources, and is cancelled when another resource of the stack fails. A plain function runs on
    the loop too.

    A slow `create` calls `announce` with the physical id as soon as there is something to delete. The rollback deletes
    it when the creation fails or is cancelled.
    """

    create: Callable[[str, Properties, str], Provisioned | Awaitable[Provisioned]]
    update: Callable[[str, Properties, Properties, str], Provisioned | Awaitable[Provisioned]]
    delete: Callable[[str, Properties], Awaitable[None] | None]
    snapshot: Callable[[str, Properties], Awaitable[None] | None] | None = None
    """`snapshot(physical_id, properties)` runs before `delete` where the deletion policy is Snapshot."""


class Registry:
    """The resource types that the region adds to MiniStack or replaces in it, and those with drift detection."""

    def __init__(self) -> None:
        self.types: dict[str, Handlers] = {}
        self.drift: dict[str, tuple[Reader, Collection[str]]] = {}
        """The reader of each type with drift detection, and the properties that are compared."""

    def register(self, type_name: str, handlers: Handlers) -> None:
        """Make `type_name` a resource type of this region, in place of MiniStack's own if it has one.

        Call it from a component's `install`, before the first stack operation.
        """
        self.types[type_name] = handlers

    def detect_drift(self, type_name: str, reader: Reader, properties: Collection[str]) -> None:
        """Detect the drift of a type, of MiniStack too, in these properties."""
        self.drift[type_name] = (reader, properties)


_announcement: ContextVar[Callable[[str], None] | None] = ContextVar("announcement", default=None)


def announce(physical_id: str) -> None:
    """Called by a `create`: the resource exists under this id but is not ready yet.

    CloudFormation then shows it ("Resource creation Initiated"), and deletes it if the creation fails.
    """
    if announced := _announcement.get():
        announced(physical_id)
