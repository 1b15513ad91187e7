"""Reads processes' data from /proc: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html"""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from `state` on, after the program's name, which can contain any character.

    Raises OSError if there is no such process.
    """
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process and of the children that it has waited for. Raises OSError."""
    # utime, stime, cutime and cstime, counted from `state`
    return sum(int(field) for field in stat_fields(pid)[11:15]) / _TICKS_PER_SECOND


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status. Raises OSError."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def children(pid: int) -> list[int]:
    """The children of a process. Raises OSError."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_line(pid: int) -> str:
    """The command line of a process, its arguments separated by spaces. Raises OSError."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def processes() -> list[int]:
    """The processes of this machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def process_namespace(pid: int) -> str:
    """The process namespace of a process. Raises OSError, also for another user's process."""
    return str(Path(f"/proc/{pid}/ns/pid").readlink())


def resident_bytes(pid: int) -> int:
    """The present memory of a process. Raises OSError."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
