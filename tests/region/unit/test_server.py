"""The region's process connects its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from ministack import app as ministack_app
from ministack.core import router

from alva.region import server
from alva.region.background import Background
from alva.region.cloudformation.registry import Registry
from alva.region.service_table import ServiceTable
from tests.waiting import async_until


def test_a_stack_operation_saves_the_state_after_each_step_and_at_once_when_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module, name in ((ministack_app, "SERVICE_HANDLERS"), (ministack_app, "SERVICE_REGISTRY")):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))
    monkeypatch.setattr(router, "SERVICE_PATTERNS", dict(router.SERVICE_PATTERNS))
    told: list[str | Mapping[str, bool]] = []
    region: Any = SimpleNamespace(
        services=ServiceTable(),
        resource_types=Registry(),
        persistence=SimpleNamespace(mark_stacks_changed=lambda **how: told.append(how)),
        network=SimpleNamespace(changed=lambda: told.append("network")),
        load_balancers=SimpleNamespace(security_groups_may_have_changed=lambda: told.append("load balancers")),
    )

    async def run() -> None:
        region.background = Background()
        operations = server.install_cloudformation(region)
        assert region.services.states()["cloudformation"] is operations.records

        async def work() -> None:
            operations.provisioner.changed()
            assert told == [{}, "network", "load balancers"]
            told.clear()

        operations.run({"StackName": "one"}, work())
        await async_until(lambda: told == [{"at_once": True}], "the end of the operation")
        await region.background.stop()

    asyncio.run(run())
