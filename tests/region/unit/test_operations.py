"""The end of a stack operation is reported, so that it is saved at once."""

from __future__ import annotations

import asyncio

import pytest

from alva.region.background import Background
from alva.region.cloudformation.operations import Operations
from alva.region.cloudformation.provisioning import Provisioner
from alva.region.cloudformation.registry import Registry
from alva.region.cloudformation.store import StackRecords
from tests.waiting import async_until


@pytest.mark.parametrize("error", [None, OSError("the disk is full")], ids=["completed", "failed"])
def test_the_end_of_every_operation_is_reported_once(error: Exception | None) -> None:
    ends: list[str] = []

    async def work() -> None:
        assert ends == [], "the operation has not ended"
        if error is not None:
            raise error

    async def run() -> None:
        background = Background()
        operations = Operations(background, StackRecords(), Provisioner(Registry()), lambda: ends.append("ended"))
        operations.run({"StackName": "one"}, work())
        await async_until(lambda: ends, "the end of the operation")
        await background.stop()

    asyncio.run(run())
    assert ends == ["ended"]
