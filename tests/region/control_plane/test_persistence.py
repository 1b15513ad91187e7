"""When the state is saved: records together, long histories less often."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alva.errors import RegionFailed
from alva.region import persistence
from alva.region.background import Background
from alva.region.persistence import Persistence
from tests.waiting import async_until


class Saved:
    """Services, each with a state, and their saved states."""

    def __init__(self, file: Path, *services: str, background: Background | None = None) -> None:
        self.states: dict[str, Any] = dict.fromkeys(services, 0)
        self.services: dict[str, Any] = {
            name: SimpleNamespace(get_state=lambda name=name: self.states[name]) for name in services
        }
        self.background = background or Background()
        self._file = file
        table: Any = SimpleNamespace(states=lambda: self.services)
        self.persistence = Persistence(file, table, self.background)

    def save(self) -> dict[str, Any]:
        asyncio.run(self.persistence.save())
        with sqlite3.connect(self._file) as connection:
            rows = connection.execute("SELECT service, payload FROM state").fetchall()
        connection.close()
        return {service: json.loads(payload) for service, payload in rows}


def test_stacks_are_saved_together_with_their_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every encoding takes too long: only histories are delayed.
    monkeypatch.setattr(persistence, "SHARE_OF_TIME", 1e-12)
    saved = Saved(tmp_path / "state.sqlite", "iam", "cloudformation")
    saved.save()
    saved.states = {"iam": "a role", "cloudformation": "the stack that made it"}
    saved.persistence.mark_stacks_changed()
    assert saved.save() == saved.states


def test_long_history_is_saved_later_and_at_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "SHARE_OF_TIME", 1e-12)
    saved = Saved(tmp_path / "state.sqlite", "ssm", "cloudwatch")
    saved.save()
    saved.states = {"ssm": 1, "cloudwatch": 1}
    assert saved.save() == {"ssm": 1, "cloudwatch": 0}
    asyncio.run(saved.persistence.stop())
    assert saved.save() == saved.states


def test_state_of_a_service_that_is_no_longer_offered_is_logged_and_kept_and_the_rest_is_restored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "state.sqlite"
    earlier = Saved(file, "ssm", "dynamodb")
    earlier.states = {"ssm": {"a": 1}, "dynamodb": {"a table": "of an earlier version"}}
    earlier.save()

    now = Saved(file, "ssm")
    restored: dict[str, Any] = {}
    module = SimpleNamespace(load_persisted_state=restored.update, get_state=lambda: {"a": 2})
    now.services = {"ssm": module}
    assert now.persistence.restore() == ["ssm"]
    assert restored == {"a": 1}
    (told,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "the state of dynamodb is kept there and not restored" in told
    assert str(file) in told
    assert now.save() == {"ssm": {"a": 2}, "dynamodb": {"a table": "of an earlier version"}}


def test_state_of_a_newer_version_is_refused_and_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    saved = Saved(file, "ssm")
    saved.save()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(RegionFailed, match="a newer version of alva wrote its saved state") as failure:
        Saved(file, "ssm").persistence.restore()
    assert "format 99; this version reads up to" in failure.value.evidence[0]
    assert file.read_bytes() == before


def test_service_whose_state_cannot_be_saved_does_not_stop_the_others(tmp_path: Path) -> None:
    saved = Saved(tmp_path / "state.sqlite", "rds", "ssm")
    saved.save()
    saved.states = {"rds": object(), "ssm": 1}
    assert saved.save() == {"rds": 0, "ssm": 1}
    assert [failure.name for failure in saved.background.failures] == ["save the state of rds"]
    saved.states = {"rds": 2, "ssm": 1}
    assert saved.save() == {"rds": 2, "ssm": 1}
    assert saved.background.failures == []


def test_service_whose_state_cannot_be_read_starts_empty_and_its_state_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    Saved(file, "rds", "ssm").save()
    now = Saved(file, "rds", "ssm")
    restored: list[Any] = []
    now.services = {
        "rds": SimpleNamespace(load_persisted_state=lambda state: state["no such key"], get_state=lambda: "empty"),
        "ssm": SimpleNamespace(load_persisted_state=restored.append, get_state=lambda: 0),
    }
    assert now.persistence.restore() == ["ssm"]
    assert restored == [0]
    assert [failure.name for failure in now.background.failures] == ["restore the state of rds"]
    assert now.save() == {"rds": "empty", "ssm": 0}
    with sqlite3.connect(file) as connection:
        kept = connection.execute("SELECT service, payload FROM unreadable_state").fetchall()
    connection.close()
    assert kept == [("rds", b"0")]


def test_saver_continues_after_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "DELAY_SECONDS", 0.0)
    saved = Saved(tmp_path / "state.sqlite", "ssm", background=Background(retry_seconds=0.01))
    write = saved.persistence._write

    def once(*_: Any) -> None:
        monkeypatch.setattr(saved.persistence, "_write", write)
        raise sqlite3.OperationalError("database or disk is full")

    async def run() -> None:
        monkeypatch.setattr(saved.persistence, "_write", once)
        saved.persistence.start()
        saved.persistence.mark_changed()
        await async_until(lambda: saved.persistence._written and not saved.background.failures, "another write")
        await saved.persistence.stop()

    asyncio.run(run())
    assert saved.save() == {"ssm": 0}


def test_the_end_of_a_stack_operation_is_saved_without_the_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "DELAY_SECONDS", 3600.0)
    saved = Saved(tmp_path / "state.sqlite", "cloudformation")

    async def run() -> None:
        saved.persistence.start()
        saved.persistence.mark_stacks_changed()
        saved.persistence.mark_stacks_changed(at_once=True)
        await async_until(lambda: saved.persistence._written, "the saved state")
        await saved.persistence.stop()

    asyncio.run(run())
