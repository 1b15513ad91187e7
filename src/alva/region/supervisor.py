"""The region's child processes: started, listened to, stopped; all gone when the region is gone.

Each child is its own session and process group, dies with the region's event loop thread (PR_SET_PDEATHSIG), and is on
file with its process id and start time, so that what still outlives a SIGKILLed region is found by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from alva.errors import SandboxFailed
from alva.region.config import RegionConfig
from alva.region.sandbox import SandboxSpec, find_base

_LAUNCHER = Path(__file__).parent / "sandbox" / "launch.py"
_LONGEST_LINE_BYTES = 256 * 1024
"""CloudWatch Logs' limit for one event before June 2025, and still a sane one: a longer line comes in pieces."""


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """A program to run."""

    name: str
    """For messages and the process list: "api/worker 3f2a"."""
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """The whole environment; nothing is inherited."""
    sandbox: SandboxSpec | None = None
    """None: the machine's own view (Envoy, PostgreSQL)."""
    inside: Process | None = None
    """Run in the view of this running sandboxed process (a container health check); `sandbox` is ignored then."""
    log_file: Path | None = None
    """Output is appended to this file, or"""
    on_line: Callable[[str], None] | None = None
    """each line of output, without its end, is given to this on the event loop, in order; neither: output is dropped."""
    stop_signal: int = signal.SIGTERM
    user: tuple[int, int] | None = None
    """uid and gid to become when the region is root; None keeps root, without its dangerous capabilities in a sandbox."""


@dataclass(frozen=True)
class Exit:
    """How a process ended."""

    code: int
    """As ECS shows it: the exit code, or 128 + signal (137 for SIGKILL, 143 for SIGTERM)."""


class Process:
    """A running (or ended) child. Made by Supervisor.start."""

    def __init__(self, spec: ProcessSpec, pid: int) -> None:
        self.spec = spec
        self.pid = pid
        self.name = spec.name
        self.started_at = time.time()
        """Seconds since the epoch."""
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended yet, as far as the event loop has noticed."""
        return not self._exit.done()

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        return self._exit.result() if self._exit.done() else None

    async def wait(self) -> Exit:
        """Return how the process ended, once it has and all of its output was given to `on_line`."""
        return await asyncio.shield(self._exit)

    async def stop(self, timeout_seconds: float) -> Exit:
        """Send the stop signal, SIGKILL to the whole group after `timeout_seconds`, and return how it ended.

        Safe to call on an ended process and more than once.
        """
        raise NotImplementedError

    def kill(self) -> None:
        """SIGKILL the whole group now, without waiting."""
        raise NotImplementedError


class Supervisor:
    """Starts the region's child processes and answers for all of them.

    Everything here is called on the event loop's thread: a child dies with the thread that started it.
    """

    def __init__(self, config: RegionConfig) -> None:
        self._config = config

    async def start(self, spec: ProcessSpec) -> Process:
        """Start a program; returns once it runs in its view (its `exec` succeeded), some 30 ms in a sandbox.

        Raises SandboxFailed, with the step that failed, when the view cannot be made or the program not be started.
        """
        raise NotImplementedError

    async def stop_all(self, timeout_seconds: float = 5.0) -> None:
        """Stop every child side by side; SIGKILL after `timeout_seconds`."""
        raise NotImplementedError

    def kill_leftovers(self) -> list[int]:
        """SIGKILL what an earlier region of this home left behind and return its process ids; call before `start`."""
        raise NotImplementedError
