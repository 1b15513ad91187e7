"""Only one operation at a time uses a database's folder."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alva.region.aws_error import AwsError
from alva.region.background import Background
from alva.region.engine import Engine, EngineFailed
from alva.region.rds import api
from alva.region.rds.databases import Databases
from alva.region.rds.records import DBInstance
from tests.region.unit.test_engine_records import db_instance
from tests.waiting import async_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """A slow server that fails if two operations use it at once."""

    is_initialised = True

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.calls: list[str] = []
        self._at_work = False
        self.fails = False

    async def _work(self, name: str) -> None:
        assert not self._at_work, f"{name} while another operation uses the folder"
        self._at_work = True
        await asyncio.sleep(0.01)
        self._at_work = False
        self.calls.append(name)
        if self.fails:
            raise EngineFailed("no disk")

    async def stop(self) -> None:
        await self._work("stop")

    async def start(self) -> None:
        await self._work("start")

    async def delete(self) -> None:
        await self._work("delete")

    async def set_password(self, *_: str) -> None:
        await self._work("set password")

    async def snapshot(self, _: Path) -> None:
        await self._work("snapshot")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def record() -> DBInstance:
    return db_instance("main", resource_id="db-1", status="available")


@pytest.fixture
def databases(server: Server, record: DBInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Databases:
    region: Any = SimpleNamespace(
        background=Background(),
        config=SimpleNamespace(state_folder=tmp_path, account_id="0", region="us-east-1"),
        names=SimpleNamespace(withdraw=lambda _: None),
    )
    made = Databases(region)
    made.store.engines["main"] = record
    servers: Any = {"db-1": server}
    made._servers = servers

    async def bring_up(record: DBInstance, server: Any) -> None:
        await server.start()
        record.status = "available"

    monkeypatch.setattr(made, "_bring_up", bring_up)
    return made


async def test_operations_on_one_database_follow_each_other(
    databases: Databases, server: Server, record: DBInstance
) -> None:
    await asyncio.gather(
        databases.set_password(record), databases.restart(record), databases.snapshot(record, "s"),
        databases.set_password(record),
    )  # fmt: skip
    password = ["stop", "set password", "start"]
    assert server.calls == [*password, "stop", "start", "snapshot", *password]
    assert record.status == "available"


async def test_database_that_is_changed_cannot_be_rebooted_or_stopped(
    databases: Databases, server: Server, record: DBInstance
) -> None:
    changing = asyncio.ensure_future(databases.set_password(record))
    await asyncio.sleep(0)
    for action in ("RebootDBInstance", "StopDBInstance"):
        with pytest.raises(AwsError, match="is in modifying state") as refused:
            await api.change_state(databases, action, {"DBInstanceIdentifier": "main"})
        assert refused.value.code == "InvalidDBInstanceState"
    await changing
    assert server.calls == ["stop", "set password", "start"]


async def test_operation_that_waited_for_a_deletion_does_not_make_the_database_again(
    databases: Databases, server: Server, record: DBInstance
) -> None:
    deleting = asyncio.ensure_future(databases.delete(record))
    await asyncio.sleep(0)
    with pytest.raises(EngineFailed, match="was deleted"):
        await databases.restart(record)
    await deleting
    assert server.calls == ["delete"]


async def test_failed_change_is_on_record_and_shown(databases: Databases, server: Server, record: DBInstance) -> None:
    server.fails = True
    await api.change_state(databases, "RebootDBInstance", {"DBInstanceIdentifier": "main"})
    await async_until(lambda: databases.region.background.failures, "the failure of the job")
    assert record.status == "failed"
    assert databases.region.background.failures[0].name == "change DB instance main"


async def test_restart_after_a_crash_waits_for_the_owner_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alva.region.recovery.FIRST_DELAY_SECONDS", 0.0)
    supervisor: Any = None
    engine = Engine("main", tmp_path, supervisor, Background(), print)
    launched = asyncio.Event()

    async def launch() -> None:
        launched.set()

    async def ended() -> Any:
        return SimpleNamespace(code=9)

    process: Any = SimpleNamespace(name="rds/main", wait=ended)
    engine._session = object()
    async with engine.lock:
        engine._restart_after_crash(process, launch)
        await asyncio.sleep(0.05)
        assert not launched.is_set()
    await asyncio.wait_for(launched.wait(), 10)
