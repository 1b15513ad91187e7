"""Adds the region's services to MiniStack's API, or replaces MiniStack's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Awaitable
from typing import Any, Protocol

from ministack import app as ministack_app
from ministack.core import router

from alva.region import offered_services

Response = tuple[int, dict[str, str], bytes]


class State(Protocol):
    """State that is saved with MiniStack's; a module or an object with these functions."""

    def get_state(self) -> dict[str, Any]: ...

    def load_persisted_state(self, data: dict[str, Any]) -> None: ...

    def reset(self) -> None: ...


class Service(State, Protocol):
    """The interface of a service's module in MiniStack."""

    def handle_request(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Awaitable[Response]: ...


class ServiceTable:
    """The services of the API that are the region's own, and the states to save."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}
        """The region's own states by the name under which they are saved."""

    def replace(self, name: str, service: Service) -> None:
        """Replace a service of MiniStack with `service`, and save its state under MiniStack's name."""
        ministack_app.SERVICE_HANDLERS[name] = service.handle_request
        self.add_state(ministack_app.SERVICE_REGISTRY[name]["module"], service)

    def add(self, name: str, service: Service, target_prefix: str) -> None:
        """Add a service with a JSON protocol whose X-Amz-Target begins with `target_prefix`."""
        ministack_app.SERVICE_REGISTRY[name] = {"module": name.replace("-", "_")}
        router.SERVICE_PATTERNS[name] = {"target_prefixes": [target_prefix]}
        self.replace(name, service)

    def add_state(self, name: str, state: State) -> None:
        """Save and restore a state under this name, in place of MiniStack's if it has one of the name."""
        self._states[name] = state

    def states(self) -> dict[str, State | None]:
        """The states to save by name; None for that of a MiniStack module which no request has used."""
        modules = {ministack_app.SERVICE_REGISTRY[name]["module"] for name in offered_services.OFFERED}
        theirs = {name: sys.modules.get(f"ministack.services.{name}") for name in sorted(modules)}
        return {**theirs, **self._states}


def module_of(name: str) -> State:
    """MiniStack's module of a service."""
    return importlib.import_module(f"ministack.services.{name}")
