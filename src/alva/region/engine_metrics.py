"""Measures databases and caches in /proc and publishes the values to CloudWatch."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from alva.region import procfs
from alva.region.background import Background, end
from alva.region.cloudwatch.metrics import Metrics

PUBLISH_SECONDS = 15.0
"""RDS and ElastiCache publish once a minute. The region publishes more often, so that alarms change their state sooner.
"""

Data = Mapping[str, tuple[float, str]]
"""Metric name -> value and unit."""


@dataclass(frozen=True)
class Usage:
    """Usage of some processes: CPU time so far, memory now, and the time of measurement."""

    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    at: float = 0.0
    """Time of the monotonic clock."""


def processes_under(root: int) -> list[int]:
    """A process and its descendants; empty when it has ended."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            waiting += procfs.children(pid)
            found.append(pid)
    return found


def usage(pids: Iterable[int]) -> Usage:
    """The total usage of processes. Shared memory counts once; ended processes are ignored."""
    cpu_seconds, private, shared = 0.0, 0, 0
    for pid in pids:
        with contextlib.suppress(OSError, KeyError):
            cpu_seconds += procfs.cpu_seconds(pid)
            status = procfs.status(pid)
            private += int(status["RssAnon"].split()[0]) * 1024
            shared = max(shared, int(status["RssShmem"].split()[0]) * 1024)
    return Usage(cpu_seconds, private + shared, time.monotonic())


def cpu_percent(before: Usage, now: Usage, vcpus: int) -> float:
    """CPU use between two measurements, in percent of all virtual CPUs; at most 100."""
    elapsed = max(now.at - before.at, 0.001)
    # The CPU time of an ended backend is missing until its parent has waited for it.
    return min(100.0, 100 * max(0.0, now.cpu_seconds - before.cpu_seconds) / (elapsed * vcpus))


def publish(metrics: Metrics, namespace: str, dimensions: Mapping[str, str], data: Data) -> None:
    """Publish one value of each metric."""
    for name, (value, unit) in data.items():
        metrics.put(namespace, name, dimensions, unit, [value])


class Publisher:
    """Calls `measure` periodically, and at once after `wake`."""

    def __init__(self, background: Background, name: str, measure: Callable[[], Awaitable[None]]) -> None:
        self._background = background
        self._name = name
        self._measure = measure
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start. Called on the event loop."""
        self._task = self._background.run_forever(f"measure {self._name}", self._run)

    def wake(self) -> None:
        """Measure at once, for an engine that has just started."""
        self._woken.set()

    async def stop(self) -> None:
        """Stop measuring."""
        await end(self._task)
        self._task = None

    async def _run(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._woken.wait()
        self._woken.clear()
        await self._measure()
