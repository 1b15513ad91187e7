"""What each part of the region with a data plane provides: ECS, load balancers, databases, caches, stand-ins."""

from __future__ import annotations

from typing import Protocol


class Component(Protocol):
    """A part of the region: API handlers in the control plane, processes in the data plane.

    A component is constructed with the `Region`. The daemon then calls `install` for all of them, restores the state,
    calls `start` for all of them, serves, and at the end calls `stop` in the opposite order.
    """

    def install(self) -> None:
        """Register API handlers and CloudFormation types; called before the state is restored."""
        ...

    async def start(self) -> None:
        """Bring the data plane to what the restored state says; called on the event loop."""
        ...

    async def stop(self) -> None:
        """Stop the data plane and keep the state. Safe to call when `start` failed half-way."""
        ...
