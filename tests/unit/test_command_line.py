"""Child programs end at their time limit, and their last lines are kept."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from alva.cli import command_line
from alva.errors import TimedOut
from tests.waiting import until

# Starts a child that keeps the output open and prints nothing for an hour, like a build that hangs in a RUN.
HANGS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
print("child", child.pid, flush=True)
time.sleep(3600)
"""


def run(program: str, folder: Path, lines: list[str], **options: object) -> command_line.Ended:
    arguments: dict[str, object] = {"timeout_seconds": 60.0, "what": "build web", **options}
    return command_line.run(
        (sys.executable, "-c", program),
        folder=folder,
        environment=dict(os.environ),
        line=lines.append,
        **arguments,  # type: ignore[arg-type]
    )


def has_ended(pid: int) -> bool:
    """Whether a process has ended, shortly after its output; a zombie counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_output_is_forwarded_by_line_and_its_last_lines_are_stored(tmp_path: Path) -> None:
    lines: list[str] = []
    ended = run("import sys\nfor n in range(20): print(n)\nsys.exit(3)", tmp_path, lines)
    assert lines == [str(n) for n in range(20)]
    assert (ended.exit_code, ended.last_lines) == (3, tuple(str(n) for n in range(12, 20)))


def test_silent_program_is_stopped_at_the_deadline_with_its_children(tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(TimedOut, match=r"cannot build web: .* was still running after 1 s") as caught:
        run(HANGS, tmp_path, lines, timeout_seconds=1.0)
    assert caught.value.exit_code == 6
    until(lambda: all(has_ended(int(line.split()[1])) for line in lines), "the end of its children")


def test_cancelled_silent_program_is_stopped(tmp_path: Path) -> None:
    cancelled = threading.Event()
    lines: list[str] = []

    class Telling(list[str]):
        def append(self, text: str) -> None:
            lines.append(text)
            cancelled.set()

    ended = run(HANGS, tmp_path, Telling(), cancelled=cancelled, timeout_seconds=3600.0)
    assert ended.exit_code < 0
    until(lambda: has_ended(int(lines[0].split()[1])), "the end of its child")
