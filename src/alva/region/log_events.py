"""The events of CloudWatch Logs: deletes expired ones, and finds those that are not saved yet.

MiniStack stores `retentionInDays` but deletes nothing, and keeps a second record of each event for Insights. Here
events expire, at the latest when a log group or the region has too many, and records for Insights are created on
demand. https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/Working-with-log-groups-and-streams.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ministack.core.responses import AccountRegionScopedDict
from ministack.services import cloudwatch_logs

EVENTS_PER_GROUP = 50_000
EVENTS_IN_ALL = 200_000
"""Limits that AWS does not have but a process on one machine needs. The oldest events are deleted first."""
INSIGHTS_RECORDS = 10_000
"""The most rows that one Insights query returns on AWS."""
INSIGHTS_QUERIES = 1_000
"""AWS deletes queries by their age."""

_MILLISECONDS_PER_DAY = 24 * 3600 * 1000

Event = dict[str, Any]
StreamKey = str
"""Account, region, log group and stream, as a JSON list."""


@dataclass(frozen=True)
class Appended:
    """Events of one stream that are not saved, in order."""

    stream: StreamKey
    events: list[Event]


@dataclass(frozen=True)
class Changes:
    """The changes that bring the saved events up to date. Applied in this order."""

    removed: list[StreamKey]
    """Streams whose saved events are deleted: the stream was deleted, or all of its events are in `appended`."""
    expired: list[tuple[StreamKey, int]]
    """Streams, each with the time (ms) of its oldest remaining event."""
    appended: list[Appended]
    positions: dict[StreamKey, _Position]

    def __bool__(self) -> bool:
        return bool(self.removed or self.expired or self.appended)


@dataclass(frozen=True)
class _Position:
    """How far a stream is saved."""

    count: int
    first: Event | None
    last: Event | None


class _Groups(AccountRegionScopedDict):  # type: ignore[misc]
    """MiniStack's log groups. It copies them for the saved state; a copy has no events, which are saved apart."""

    __slots__ = ()

    def __deepcopy__(self, _: object) -> AccountRegionScopedDict:
        copied = AccountRegionScopedDict()
        for (account, region, name), group in self.all_items():
            streams = {each: {**stream, "events": []} for each, stream in group["streams"].items()}
            copied.set_scoped(account, region, name, {**group, "streams": streams})
        return copied


class _Recent(AccountRegionScopedDict):  # type: ignore[misc]
    """The latest records of a table of MiniStack. A copy for the saved state is the table itself."""

    __slots__ = ("_limit",)

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        while len(self._data) > self._limit:
            del self._data[next(iter(self._data))]

    def __deepcopy__(self, _: object) -> AccountRegionScopedDict:
        return self


def install() -> None:
    """Limit the records for Insights and the queries; MiniStack creates missing records from the events."""
    cloudwatch_logs._log_groups = _Groups()
    cloudwatch_logs._log_records = _Recent(INSIGHTS_RECORDS)
    cloudwatch_logs._queries = _Recent(INSIGHTS_QUERIES)


def expire(now: float) -> int:
    """Delete the events that are older than their group's retention, and the oldest above the limits.

    `now` in seconds; returns how many were deleted.
    """
    deleted, counts = 0, {}
    for key, group in cloudwatch_logs._log_groups.all_items():
        streams = [stream for stream in group["streams"].values() if stream["events"]]
        days = group.get("retentionInDays")
        cutoff = int(now * 1000) - int(days) * _MILLISECONDS_PER_DAY if days else None
        for stream in streams:
            if cutoff is not None:
                deleted += _delete_before(stream, cutoff)
        deleted += _delete_oldest(streams, EVENTS_PER_GROUP)
        counts[key] = streams
    return deleted + _delete_oldest([stream for streams in counts.values() for stream in streams], EVENTS_IN_ALL)


def _delete_before(stream: dict[str, Any], cutoff: int) -> int:
    events = stream["events"]
    index = next((i for i, event in enumerate(events) if event["timestamp"] >= cutoff), len(events))
    _delete_first(stream, index)
    return index


def _delete_oldest(streams: list[dict[str, Any]], most: int) -> int:
    """Reduce the events to 90 % of `most`, so that the next event does not need another deletion."""
    total = sum(len(stream["events"]) for stream in streams)
    if total <= most:
        return 0
    times = sorted(event["timestamp"] for stream in streams for event in stream["events"])
    excess = total - most * 9 // 10
    cutoff, deleted = times[excess], 0
    for stream in streams:
        deleted += _delete_before(stream, cutoff)
    if deleted < excess:  # Many events have the same millisecond.
        for stream in streams:
            count = min(len(stream["events"]), excess - deleted)
            _delete_first(stream, count)
            deleted += count
    return deleted


def _delete_first(stream: dict[str, Any], count: int) -> None:
    if count:
        # Without MiniStack's lock: events are also appended and read on the event loop.
        del stream["events"][:count]
        stream["firstEventTimestamp"] = stream["events"][0]["timestamp"] if stream["events"] else None


class LogEvents:
    """Tracks which events are saved."""

    def __init__(self) -> None:
        self._positions: dict[StreamKey, _Position] = {}

    def state(self) -> dict[str, Any]:
        """The state of CloudWatch Logs without its events. It is not a copy: encode it before other code runs."""
        return {name: table for name, table in cloudwatch_logs.get_state().items() if name != "log_records"}

    def changes(self) -> Changes:
        """The changes that are not saved yet, found from the ends of each stream."""
        removed, expired, appended, positions = [], [], [], {}
        for key, events in _streams():
            positions[key] = _Position(len(events), events[0] if events else None, events[-1] if events else None)
            before = self._positions.get(key)
            if before is None or before.count == 0:
                new = events
            elif (start := _index_of_last(events, before)) is None:
                # Late events were inserted, or the stream was created again: write all of it.
                removed.append(key)
                new = events
            else:
                new = events[start + 1 :]
                if events[0] is not before.first:
                    expired.append((key, events[0]["timestamp"]))
            if new:
                appended.append(Appended(key, list(new)))
        removed += [key for key, before in self._positions.items() if key not in positions and before.count]
        return Changes(removed, expired, appended, positions)

    def written(self, changes: Changes) -> None:
        """Record that these changes are saved."""
        self._positions = changes.positions

    def restore(self, stored: Iterator[tuple[StreamKey, list[Event]]]) -> None:
        """Add the saved events to the restored streams, in the order in which they were appended."""
        restored: set[StreamKey] = set()
        orphans: dict[StreamKey, _Position] = {}
        for key, events in stored:
            account, region, group_name, stream_name = json.loads(key)
            group = cloudwatch_logs._log_groups.get_scoped(account, region, group_name)
            stream = group["streams"].get(stream_name) if group else None
            if stream is not None:
                restored.add(key)
                stream["events"].extend(events)
            else:
                orphans[key] = _Position(len(events), None, None)  # The next save deletes them.
        expire(time.time())
        known = self.changes().positions
        self._positions = {**{key: each for key, each in known.items() if key in restored}, **orphans}


def _streams() -> Iterator[tuple[StreamKey, list[Event]]]:
    for (account, region, name), group in cloudwatch_logs._log_groups.all_items():
        for stream_name, stream in group["streams"].items():
            yield json.dumps([account, region, name, stream_name]), stream["events"]


def _index_of_last(events: list[Event], before: _Position) -> int | None:
    """The present index of the last saved event; None if the saved events are not a contiguous part of these events."""
    if not events:
        return None
    # Its index is unchanged unless events before it have expired.
    if before.count <= len(events) and events[before.count - 1] is before.last and events[0] is before.first:
        return before.count - 1
    for index in range(min(before.count, len(events)) - 1, -1, -1):
        if events[index] is before.last:
            # Only events before it may have been deleted: a late event would have increased its index.
            return index if events[0] is not before.first else None
    return None
