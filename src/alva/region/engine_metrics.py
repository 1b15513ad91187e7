"""What databases and caches use, measured from /proc, and its way into CloudWatch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ministack.services import cloudwatch

logger = logging.getLogger(__name__)

PUBLISH_SECONDS = 15.0
"""RDS and ElastiCache publish once a minute; here an alarm that should ring need not be waited for as long."""

KEPT_SECONDS = 3 * 3600
"""CloudWatch keeps points of less than a minute's resolution for three hours."""

Data = Mapping[str, tuple[float, str]]
"""Metric name -> value and unit."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """What an engine's processes have used: CPU time so far, memory now, and when this was seen."""

    cpu_seconds: float
    memory_bytes: int
    at: float
    """Of the monotonic clock."""


def processes_under(root: int) -> list[int]:
    """A process and its descendants; empty when it has ended."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            waiting += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            found.append(pid)
    return found


def usage(pids: Iterable[int]) -> Usage:
    """What processes use together; memory that they share counts once. Those that have ended count for nothing."""
    ticks, private, shared = 0, 0, 0
    for pid in pids:
        with contextlib.suppress(OSError, KeyError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            # utime, stime and those of children that were waited for; proc(5), counted from `state`
            ticks += sum(int(field) for field in fields[11:15])
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
            )
            private += int(status["RssAnon"].split()[0]) * 1024
            shared = max(shared, int(status["RssShmem"].split()[0]) * 1024)
    return Usage(ticks / _TICKS_PER_SECOND, private + shared, time.monotonic())


def cpu_percent(before: Usage, now: Usage, vcpus: int) -> float:
    """CPU use between two moments, in percent of all virtual CPUs; at most 100, as an instance has no more."""
    elapsed = max(now.at - before.at, 0.001)
    # A backend that ended meanwhile takes its time with it until its parent has waited for it.
    return min(100.0, 100 * max(0.0, now.cpu_seconds - before.cpu_seconds) / (elapsed * vcpus))


def publish(namespace: str, dimensions: Mapping[str, str], data: Data) -> None:
    """Put one value of each metric, and forget what is too old."""
    now = time.time()
    for name, (value, unit) in data.items():
        cloudwatch._store_datum(namespace, name, dict(dimensions), now, unit, value, None, None, None)
    for key, points in list(cloudwatch._metrics.items()):
        if key[0] == namespace and points and points[0]["Timestamp"] < now - KEPT_SECONDS:
            cloudwatch._metrics[key] = [point for point in points if point["Timestamp"] >= now - KEPT_SECONDS]


class Publisher:
    """Calls `measure` again and again, and at once after `wake`."""

    def __init__(self, name: str, measure: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._measure = measure
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Called on the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"metrics of {self._name}")

    def wake(self) -> None:
        """Something new runs: let its first values be seen."""
        self._woken.set()

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), PUBLISH_SECONDS)
            self._woken.clear()
            try:
                await self._measure()
            except Exception:
                # What cannot be measured now may be at the next time; the engines themselves are not at stake.
                logger.exception("cannot measure %s", self._name)
