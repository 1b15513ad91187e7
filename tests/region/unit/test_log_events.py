"""Log events expire and are saved once; the saved events always equal those in memory."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ministack.core.responses import AccountRegionScopedDict
from ministack.services import cloudwatch_logs

from alva.region import log_events
from alva.region.background import Background
from alva.region.persistence import Persistence

DAY = 24 * 3600 * 1000
NOW = 1_800_000_000_000


@pytest.fixture(autouse=True)
def no_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("alva.region.log_events.time.time", lambda: NOW / 1000)
    cloudwatch_logs.reset()
    log_events.install()
    yield
    cloudwatch_logs.reset()


def make(group: str, stream: str) -> None:
    cloudwatch_logs._create_log_group({"logGroupName": group})
    cloudwatch_logs._create_log_stream({"logGroupName": group, "logStreamName": stream})


def put(group: str, stream: str, *messages: str, at: int = NOW) -> None:
    events = [{"timestamp": at, "message": message} for message in messages]
    cloudwatch_logs._put_log_events({"logGroupName": group, "logStreamName": stream, "logEvents": events})


def messages(group: str, stream: str) -> list[str]:
    return [event["message"] for event in cloudwatch_logs._log_groups[group]["streams"][stream]["events"]]


class Disk:
    def __init__(self, file: Path) -> None:
        self.file = file
        services: Any = SimpleNamespace(states=lambda: {"cloudwatch_logs": cloudwatch_logs})
        self.persistence = Persistence(file, services, Background())

    def save(self) -> None:
        asyncio.run(self.persistence.save())

    def rows(self) -> list[tuple[str, str]]:
        with sqlite3.connect(self.file) as connection:
            found = connection.execute("SELECT stream, events FROM log_events ORDER BY rowid").fetchall()
        connection.close()
        return found

    def restart(self) -> Disk:
        cloudwatch_logs.reset()
        new = Disk(self.file)
        assert new.persistence.restore() == ["cloudwatch_logs"]
        return new


def test_only_new_events_are_written_and_all_are_restored(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "state.sqlite")
    make("web", "1")
    put("web", "1", "a", "b")
    disk.save()
    put("web", "1", "c", at=NOW + 1)
    disk.save()
    disk.save()
    assert [events.count("message") for _, events in disk.rows()] == [2, 1]
    disk = disk.restart()
    assert messages("web", "1") == ["a", "b", "c"]
    put("web", "1", "d", at=NOW + 2)
    disk.save()
    assert len(disk.rows()) == 3
    disk.restart()
    assert messages("web", "1") == ["a", "b", "c", "d"]


def test_events_that_came_late_are_restored_in_their_order(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "state.sqlite")
    make("web", "1")
    put("web", "1", "a")
    put("web", "1", "c", at=NOW + 2)
    disk.save()
    put("web", "1", "b", at=NOW + 1)
    disk.save()
    disk.restart()
    assert messages("web", "1") == ["a", "b", "c"]


def test_events_of_a_deleted_stream_leave_the_disk(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "state.sqlite")
    make("web", "1")
    put("web", "1", "a")
    disk.save()
    cloudwatch_logs._delete_log_stream({"logGroupName": "web", "logStreamName": "1"})
    disk.save()
    assert disk.rows() == []


def test_events_expire_by_their_groups_retention_in_memory_and_on_disk(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "state.sqlite")
    for group in ("short", "for good"):
        make(group, "1")
        put(group, "1", "old", at=NOW - 2 * DAY)
    cloudwatch_logs._put_retention_policy({"logGroupName": "short", "retentionInDays": 1})
    disk.save()
    put("short", "1", "new")
    disk.save()
    assert log_events.expire(NOW / 1000) == 1
    disk.save()
    assert messages("short", "1") == ["new"]
    assert messages("for good", "1") == ["old"]
    assert len(disk.rows()) == 2
    disk.restart()
    assert messages("short", "1") == ["new"]


def test_oldest_events_go_first_where_a_group_or_the_region_has_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_events, "EVENTS_PER_GROUP", 100)
    monkeypatch.setattr(log_events, "EVENTS_IN_ALL", 150)
    for group in ("a", "b"):
        for stream in ("1", "2"):
            make(group, stream)
    for number in range(400):
        put("a", "12"[number % 2], str(number), at=NOW + number)
    for number in range(80):
        put("b", "1", str(number), at=NOW + 1000)  # all of one millisecond
    log_events.expire(NOW / 1000)
    left = {group: sum(len(messages(group, stream)) for stream in ("1", "2")) for group in ("a", "b")}
    assert sum(left.values()) <= 150
    assert left["b"] == 80
    assert messages("a", "2")[-1] == "399"


def test_state_of_the_earlier_format_is_restored_and_written_in_the_new_one(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "state.sqlite")
    make("web", "1")
    put("web", "1", "a")
    in_memory = cloudwatch_logs._log_groups.to_dict()
    state = {**cloudwatch_logs.get_state(), "log_groups": AccountRegionScopedDict.from_dict(in_memory)}
    payload = json.dumps(state, default=log_events_default).encode()
    with sqlite3.connect(disk.file) as connection:
        connection.execute("CREATE TABLE state (service TEXT PRIMARY KEY, payload BLOB NOT NULL)")
        connection.execute("INSERT INTO state VALUES (?, ?)", ("cloudwatch_logs", payload))
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    disk = disk.restart()
    assert messages("web", "1") == ["a"]
    disk.save()
    assert len(disk.rows()) == 1
    disk.restart()
    assert messages("web", "1") == ["a"]


def log_events_default(value: Any) -> Any:
    from ministack.core.persistence import _json_default

    return _json_default(value)


def test_records_for_insights_do_not_grow_with_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_events, "INSIGHTS_RECORDS", 10)
    log_events.install()
    make("web", "1")
    put("web", "1", *map(str, range(100)))
    assert len(cloudwatch_logs._log_records.all_items()) == 10
    found = cloudwatch_logs._collect_query_records(["web"], NOW // 1000 - 1, NOW // 1000 + 1)
    assert [record["@message"] for record in found] == [str(number) for number in range(100)]


def test_latest_queries_are_kept_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_events, "INSIGHTS_QUERIES", 2)
    log_events.install()
    make("web", "1")
    put("web", "1", "a")
    for text in ("fields @message", "fields @timestamp", "fields @log"):
        request = {"logGroupName": "web", "queryString": text, "startTime": 0, "endTime": NOW}
        assert cloudwatch_logs._start_query(request)[0] == 200
    disk = Disk(tmp_path / "state.sqlite")
    disk.save()
    disk.restart()
    queries = cloudwatch_logs.get_state()["queries"].values()
    assert [each["queryString"] for each in queries] == ["fields @timestamp", "fields @log"]
