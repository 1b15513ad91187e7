"""What is written down when: records together, long histories now and then."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ministack import app as ministack_app

from alva.region import persistence
from alva.region.persistence import Persistence


class Saved:
    """Services with a state each, and what of it is on disk."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch, *services: str) -> None:
        self.states: dict[str, Any] = dict.fromkeys(services, 0)
        self.persistence = Persistence(file)
        self._file = file
        modules = {name: SimpleNamespace(get_state=lambda name=name: self.states[name]) for name in services}
        monkeypatch.setattr(ministack_app, "_state_map", {name: name for name in services})
        monkeypatch.setattr(ministack_app, "_loaded_modules", modules)

    def save(self) -> dict[str, Any]:
        asyncio.run(self.persistence.save())
        with sqlite3.connect(self._file) as connection:
            rows = connection.execute("SELECT service, payload FROM state").fetchall()
        connection.close()
        return {service: json.loads(payload) for service, payload in rows}


def test_stacks_are_written_with_the_resources_they_made_however_long_that_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Everything takes too long: only what may wait is allowed to.
    monkeypatch.setattr(persistence, "SHARE_OF_TIME", 1e-12)
    saved = Saved(tmp_path / "state.sqlite", monkeypatch, "iam", "cloudformation")
    saved.save()
    saved.states = {"iam": "a role", "cloudformation": "the stack that made it"}
    saved.persistence.mark_stacks_changed()
    assert saved.save() == saved.states


def test_long_history_waits_and_is_written_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "SHARE_OF_TIME", 1e-12)
    saved = Saved(tmp_path / "state.sqlite", monkeypatch, "ssm", "cloudwatch_logs")
    saved.save()
    saved.states = {"ssm": 1, "cloudwatch_logs": 1}
    assert saved.save() == {"ssm": 1, "cloudwatch_logs": 0}
    asyncio.run(saved.persistence.stop())
    assert saved.save() == saved.states
