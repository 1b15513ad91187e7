"""Runs other programs (docker, cdk) line by line, with a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alva.errors import TimedOut

LAST_LINES = 8
LOOK_SECONDS = 0.1
KILL_AFTER_SECONDS = 10.0
"""How long a program can take to end after SIGTERM."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The result of a program."""

    exit_code: int
    last_lines: tuple[str, ...]


def run(
    argv: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    line: Callable[[str], None],
    timeout_seconds: float,
    what: str,
    cancelled: threading.Event | None = None,
) -> Ended:
    """Run a program; `line` receives its output line by line. `cancelled` stops it early.

    Raises TimedOut ("cannot {what}: ...") after stopping it at the deadline.
    """
    last: list[str] = []
    process = subprocess.Popen(
        argv,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Its child processes keep its output open, so the whole process group is stopped.
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101
    over, late = threading.Event(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(process, over, late, timeout_seconds, cancelled), daemon=True)
    watcher.start()
    try:
        for text in process.stdout:
            last = [*last, text.rstrip()][-LAST_LINES:]
            line(text.rstrip())
        process.wait()
    except BaseException:
        _end(process, force=True)
        raise
    finally:
        over.set()
        watcher.join()
        process.stdout.close()
        process.wait()
    if late.is_set():
        raise TimedOut(f"cannot {what}: {argv[0]} was still running after {timeout_seconds:.0f} s", evidence=last)
    return Ended(exit_code=process.returncode, last_lines=tuple(last))


def _watch(
    process: subprocess.Popen[str],
    over: threading.Event,
    late: threading.Event,
    timeout_seconds: float,
    cancelled: threading.Event | None,
) -> None:
    """Stop the program at its deadline or when it is cancelled, even if it prints nothing."""
    deadline = time.monotonic() + timeout_seconds
    told_at: float | None = None
    while not over.wait(LOOK_SECONDS):
        now = time.monotonic()
        if told_at is not None:
            if now > told_at + KILL_AFTER_SECONDS:
                _end(process, force=True)
            continue
        if now > deadline:
            late.set()
        elif cancelled is None or not cancelled.is_set():
            continue
        told_at = now
        _end(process, force=False)


def _end(process: subprocess.Popen[str], *, force: bool) -> None:
    """Signal the program's process group."""
    try:
        os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)
    except ProcessLookupError:
        return
