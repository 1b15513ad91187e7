"""The base of database servers and cache nodes: a data folder, a process, and a restart after a crash."""

from __future__ import annotations

import asyncio
import shutil
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from alva.region.recovery import keep_running

if TYPE_CHECKING:
    from alva.region.background import Background
    from alva.region.network import Namespace
    from alva.region.supervisor import Process, Supervisor

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 4.0
POLL_SECONDS = 0.02
LINES_KEPT = 20


class EngineFailed(Exception):
    """An engine did not start or refused a command; the text ends with its last lines."""


class Engine:
    """A data folder and, while it runs, the server on it. Used on the event loop only.

    Code that changes the folder, or starts or stops the server, holds `lock`; so does the restart after a crash. Two
    servers on one folder would destroy its data.
    """

    def __init__(
        self, name: str, folder: Path, supervisor: Supervisor, background: Background, log: Callable[[str], None]
    ) -> None:
        self.name = name
        self.lock = asyncio.Lock()
        self.namespace: Namespace | None = None
        """The network namespace of its interface, if it has one."""
        self._folder = folder
        self._supervisor = supervisor
        self._background = background
        self._log = log
        self._last_lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._process: Process | None = None
        self._session: object | None = None
        """Set from `start` to `stop`, across restarts after a crash."""

    @property
    def is_running(self) -> bool:
        """Whether the server process runs."""
        return self._process is not None and self._process.is_running

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.is_running else None

    async def stop(self) -> None:
        """Stop the server; its data are on disk afterwards."""
        self._session = None
        if self._process is not None:
            await self._process.stop(STOP_TIMEOUT_SECONDS)
            self._process = None

    async def delete(self) -> None:
        """Stop the server and delete its data."""
        await self.stop()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _wait_until(self, is_ready: Callable[[], Awaitable[bool]], process: Process, program: str) -> None:
        """Return when the started server is ready. Raises EngineFailed with its last lines."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_SECONDS
        while not await is_ready():
            if not process.is_running:
                raise EngineFailed(f"{program} ended while it started: {self._evidence()}")
            if asyncio.get_running_loop().time() > deadline:
                await process.stop(STOP_TIMEOUT_SECONDS)
                raise EngineFailed(f"{program} did not answer within {START_TIMEOUT_SECONDS:.0f} s: {self._evidence()}")
            await asyncio.sleep(POLL_SECONDS)

    def _restart_after_crash(self, process: Process, launch: Callable[[], Awaitable[None]]) -> None:
        """Call `launch` when `process` ends before `stop`."""
        session = self._session

        async def relaunch() -> None:
            async with self.lock:
                if self._session is session:
                    await launch()

        keep_running(self._background, process, lambda: self._session is session, relaunch)

    def _on_line(self, line: str) -> None:
        self._last_lines.append(line)
        self._log(line)

    def _evidence(self) -> str:
        return " | ".join(list(self._last_lines)[-5:]) or "it printed nothing"
