"""Records running child processes in a file, so that the next region finds those that outlive a SIGKILLed one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from alva.region import procfs


class ProcessRecord:
    """The file of running children, for the next region after a SIGKILL.

    Start time and boot id identify a process; a process id alone can belong to another program later.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def write(self, pids: Iterable[int]) -> None:
        """Replace the file's content with these running processes."""
        entries = [[pid, started] for pid in pids if (started := _start_time(pid)) is not None]
        new = self._file.with_suffix(".new")
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps({"boot": _boot(), "processes": entries}))
        new.replace(self._file)

    def kill(self) -> list[int]:
        """SIGKILL the recorded processes that still run, and their groups; returns their ids once they have ended."""
        try:
            record = json.loads(self._file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return []
        if record["boot"] != _boot():
            return []
        killed = []
        for pid, started in record["processes"]:
            # A group can outlive its leader. Its id is not reused while it exists.
            group = [member for member in _session_members(pid) if (_start_time(member) or 0) >= started]
            if _start_time(pid) not in (started, None):
                continue  # another program has the id by now
            for member in group:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
                    killed.append(member)
        deadline = time.monotonic() + 5
        while any(_start_time(pid) is not None for pid in killed) and time.monotonic() < deadline:
            time.sleep(0.01)
        self._file.unlink(missing_ok=True)
        return killed


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_time(pid: int) -> int | None:
    """When a running process started, in clock ticks since boot; None when there is no such process (or a zombie)."""
    try:
        fields = procfs.stat_fields(pid)
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _session_members(session: int) -> list[int]:
    members = []
    for pid in procfs.processes():
        with contextlib.suppress(OSError):
            if int(procfs.stat_fields(pid)[3]) == session:
                members.append(pid)
    return members
