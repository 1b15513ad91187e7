"""A supervisor for each test, and programs to run in views of the machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from alva.region.config import RegionConfig
from alva.region.sandbox import SandboxSpec
from alva.region.supervisor import Process, ProcessSpec, Supervisor

APP_USER = (10001, 10001)


class Workbench:
    """Runs programs through a supervisor and keeps their output."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.supervisor = Supervisor(RegionConfig(home=home))

    def spec(self, *argv: str, lines: list[str] | None = None, **options: Any) -> ProcessSpec:
        """A program in a sandbox, by default as user 10001."""
        values: dict[str, Any] = {
            "name": argv[0],
            "argv": argv,
            "environment": {},
            "sandbox": SandboxSpec(layers=()),
            "user": APP_USER,
            "on_line": lines.append if lines is not None else None,
        }
        return ProcessSpec(**{**values, **options})

    async def start(self, *argv: str, **options: Any) -> Process:
        return await self.supervisor.start(self.spec(*argv, **options))

    async def output(self, *argv: str, **options: Any) -> str:
        """The output of a program, which must succeed."""
        lines: list[str] = []
        process = await self.start(*argv, lines=lines, **options)
        end = await process.wait()
        assert end.code == 0, lines
        return "\n".join(lines)


def open_files() -> Counter[str]:
    """The files, pipes and sockets that this process has open, with the number of descriptors of each."""
    found: Counter[str] = Counter()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # That of the search itself.
            found[str(descriptor.readlink())] += 1
    return found


@pytest.fixture
def workbench(tmp_path: Path) -> Callable[[Callable[[Workbench], Coroutine[Any, Any, None]]], None]:
    """Runs an asynchronous test with a workbench, and stops its remaining processes."""
    tmp_path.chmod(0o755)

    def run(test: Callable[[Workbench], Coroutine[Any, Any, None]]) -> None:
        async def with_stop() -> None:
            bench = Workbench(tmp_path / "home")
            try:
                await asyncio.wait_for(test(bench), 60)
            finally:
                await bench.supervisor.stop_all(0)

        before = open_files()
        asyncio.run(with_stop())
        # Files of earlier tests may be closed meanwhile.
        assert not open_files() - before, "file descriptors were left open"

    return run
