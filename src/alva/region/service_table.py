"""Adds the region's services to MiniStack's API, or replaces MiniStack's."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from ministack import app as ministack_app
from ministack.core import router

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


def replace_service(name: str, service: Service) -> None:
    """Replace a service of MiniStack with `service`, and save its state under MiniStack's name."""
    module_name = ministack_app.SERVICE_REGISTRY[name]["module"]
    ministack_app.SERVICE_HANDLERS[name] = service.handle_request
    ministack_app._loaded_modules[module_name] = service


def add_service(name: str, service: Service, target_prefix: str) -> None:
    """Add a service with a JSON protocol whose X-Amz-Target begins with `target_prefix`."""
    module_name = name.replace("-", "_")
    ministack_app.SERVICE_REGISTRY[name] = {"module": module_name}
    ministack_app.SERVICE_HANDLERS[name] = service.handle_request
    add_state(module_name, service)
    router.SERVICE_PATTERNS[name] = {"target_prefixes": [target_prefix]}


def add_state(name: str, state: State) -> None:
    """Save and restore a state that belongs to no service of MiniStack."""
    ministack_app._state_map[name] = name
    ministack_app._loaded_modules[name] = state
