"""The protocol of the region's parts with a data plane: ECS, load balancers, databases, caches, stand-ins."""

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
        """Start the data plane of the restored state; called on the event loop."""
        ...

    async def stop(self) -> None:
        """Stop the data plane and keep the state. Can be called after `start` has failed."""
        ...
