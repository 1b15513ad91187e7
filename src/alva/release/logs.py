"""The log lines of an environment's services, merged by time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from alva.aws import Aws, error_code, explained, pages
from alva.release.manifest import Manifest

OVERLAP_MILLISECONDS = 5_000
"""How far each poll looks back, because events can arrive out of order."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One log event."""

    time: datetime
    source: str
    """`api`, or `api/worker` for a container with another name than its service."""
    task: str
    """The task's id."""
    message: str

    def as_json(self) -> dict[str, object]:
        """Return the fields as a dictionary; a JSON message stays JSON."""
        try:
            message: object = json.loads(self.message)
        except ValueError:
            message = self.message
        return {"time": self.time.isoformat(), "source": self.source, "task": self.task, "message": message}


@dataclass(frozen=True, kw_only=True)
class LogGroup:
    """The log group of one service."""

    source: str
    name: str


def log_groups(manifest: Manifest, names: Sequence[str]) -> list[LogGroup]:
    """Return the groups of the named services (and "migrations"), or all; raises UsageError for an unknown name."""
    migrations = LogGroup(
        source=manifest.migration.container,
        name=f"{manifest.services[0].log_group.rpartition('/')[0]}/{manifest.migration.container}",
    )
    everything = {service.name: LogGroup(source=service.name, name=service.log_group) for service in manifest.services}
    if not names:
        return [*everything.values(), migrations]
    return [
        migrations if name == migrations.source else everything[manifest.service(name).name]
        for name in dict.fromkeys(names)
    ]


def read(aws: Aws, groups: Sequence[LogGroup], *, since: datetime, pattern: str = "") -> list[LogLine]:
    """Return all lines since then, oldest first; `pattern` is a CloudWatch Logs filter pattern."""
    return [line for _, line in _read(aws, groups, _milliseconds(since), pattern)]


def follow(aws: Aws, groups: Sequence[LogGroup], *, since: datetime, pattern: str = "") -> Iterator[LogLine]:
    """Yield all lines since then, and new lines as they arrive; does not end."""
    for lines in follow_in_rounds(aws, groups, since=since, pattern=pattern):
        yield from lines


def follow_in_rounds(
    aws: Aws, groups: Sequence[LogGroup], *, since: datetime, pattern: str = ""
) -> Iterator[list[LogLine]]:
    """Yield the same as one list per poll; an empty list if there is no new line."""
    seen: dict[str, int] = {}
    start = _milliseconds(since)
    while True:
        new = [(event_id, line) for event_id, line in _read(aws, groups, start, pattern) if event_id not in seen]
        seen |= {event_id: _milliseconds(line.time) for event_id, line in new}
        yield [line for _, line in new]
        start = max(start, max(seen.values(), default=0) - OVERLAP_MILLISECONDS)
        seen = {event_id: time for event_id, time in seen.items() if time >= start}
        aws.poll.pause(0.5)


def _read(aws: Aws, groups: Sequence[LogGroup], start: int, pattern: str) -> list[tuple[str, LogLine]]:
    found: list[tuple[str, LogLine]] = []
    for group in groups:
        with explained(f"read the logs of {group.source}"):
            try:
                for event in pages(
                    aws.logs,
                    "filter_log_events",
                    "events",
                    logGroupName=group.name,
                    startTime=start,
                    filterPattern=pattern,
                ):
                    found.append((event["eventId"], _line(group, event)))
            except Exception as error:
                if error_code(error) != "ResourceNotFoundException":  # the stack creates the group
                    raise
    return sorted(found, key=lambda item: item[1].time)


def _line(group: LogGroup, event: dict[str, object]) -> LogLine:
    # The awslogs driver's stream name is PREFIX/CONTAINER/TASK-ID.
    _, container, task = (["", "", "", *str(event["logStreamName"]).split("/")])[-3:]
    timestamp = event["timestamp"]
    assert isinstance(timestamp, int)  # noqa: S101
    return LogLine(
        time=datetime.fromtimestamp(timestamp / 1000, UTC),
        source=group.source if container in ("", group.source) else f"{group.source}/{container}",
        task=task,
        message=str(event["message"]).rstrip("\n"),
    )


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
