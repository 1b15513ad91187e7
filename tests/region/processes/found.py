"""Finds the processes of a region on the machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from alva.region import daemon
from alva.region.config import RegionConfig


def region_process(home: Path) -> int:
    """The process id of the region that runs in a home."""
    pid = daemon.status(RegionConfig(home=home)).pid
    assert pid is not None
    return pid


def scan() -> tuple[dict[int, int], dict[int, str]]:
    """The parent and the name of every process, by process id."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # proc(5): pid (comm) state ppid; the name can contain spaces and parentheses.
                head, _, rest = (folder / "stat").read_text().rpartition(")")
            except OSError:
                continue
            parents[int(folder.name)] = int(rest.split()[1])
            names[int(folder.name)] = head.partition("(")[2]
    return parents, names


def descendants(pid: int) -> dict[int, str]:
    """Every process below `pid`, with its name."""
    parents, names = scan()
    return {child: names[child] for child in below(pid, parents)}


def below(pid: int, parents: Mapping[int, int]) -> set[int]:
    """The ids of the processes below `pid`."""
    found: set[int] = set()
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found |= level
    return found


def running(pid: int, *arguments: str) -> list[int]:
    """The processes below `pid` whose command line has this ending."""
    end = b"".join(argument.encode() + b"\0" for argument in arguments)
    found = []
    for child in descendants(pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{child}/cmdline").read_bytes().endswith(end):
                found.append(child)
    return found


def engines(home: Path, program: str) -> list[int]:
    """The processes of this name below the region without a parent of the same name: servers, not their workers."""
    # One scan: a worker that ends between two scans would count as a server.
    parents, names = scan()
    found = {pid for pid in below(region_process(home), parents) if names[pid] == program}
    return [pid for pid in found if not any(pid in below(other, parents) for other in found)]


def alive(pids: Iterable[int]) -> list[int]:
    """The processes that still run, without zombies."""
    running = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            running.append(pid)
    return running
