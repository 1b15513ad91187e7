"""The metrics of a DB instance, in the namespace AWS/RDS.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-metrics.html
Measured: CPUUtilization, DatabaseConnections, FreeableMemory, FreeStorageSpace. The rest is not published.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from alva.region import engine_metrics, procfs
from alva.region.engine_metrics import Data, Usage

NAMESPACE = "AWS/RDS"
GIB = 1024**3

# A backend's title is "postgres: user database address(port) activity"; the engine's own processes have no address.
_CLIENT = re.compile(r"^postgres: \S+ \S+ \S+\(\d+\) ")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A server's usage at one time."""

    usage: Usage
    connections: int
    stored_bytes: int


def measure(postmaster: int, folder: Path) -> Measured:
    """Measure a running server. It only reads files; this takes time for a large data folder."""
    pids = engine_metrics.processes_under(postmaster)
    return Measured(
        usage=engine_metrics.usage(pids), connections=count_clients(_titles(pids)), stored_bytes=_stored_bytes(folder)
    )


def data(before: Usage, now: Measured, *, vcpus: int, memory_bytes: int, allocated_gib: int) -> Data:
    """The values to publish, relative to the instance class and the record."""
    return {
        "CPUUtilization": (engine_metrics.cpu_percent(before, now.usage, vcpus), "Percent"),
        "DatabaseConnections": (float(now.connections), "Count"),
        "FreeableMemory": (float(max(0, memory_bytes - now.usage.memory_bytes)), "Bytes"),
        "FreeStorageSpace": (float(max(0, allocated_gib * GIB - now.stored_bytes)), "Bytes"),
    }


def count_clients(titles: Iterable[str]) -> int:
    """The number of PostgreSQL's processes that serve a client."""
    return sum(1 for title in titles if _CLIENT.match(title))


def _titles(pids: Iterable[int]) -> Iterable[str]:
    for pid in pids:
        with contextlib.suppress(OSError):
            yield procfs.command_line(pid) + " "


def _stored_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # PostgreSQL may have removed the file.
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 - thousands of them
    return total
