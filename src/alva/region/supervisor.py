"""Starts and stops the region's child processes and reads their output. All of them end with the region.

Each child is its own session and process group and is killed when the region's event loop thread ends
(PR_SET_PDEATHSIG). Its process id and start time are recorded in a file, so that the next region finds children that
outlive a SIGKILLed region.
"""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alva.errors import SandboxFailed
from alva.region.config import RegionConfig
from alva.region.process_record import ProcessRecord
from alva.region.sandbox import SandboxSpec, find_base, init
from alva.region.sandbox.layout import lay_out

if TYPE_CHECKING:
    from alva.region.network.namespace import Namespace  # a late import: builds need no control plane

_LAUNCHER = Path(__file__).parent / "sandbox" / "launch.py"
_LONGEST_LINE_BYTES = 256 * 1024
"""CloudWatch Logs' limit for one event before June 2025. A longer line is split."""


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """A program to run."""

    name: str
    """For messages and the process list: "api/worker 3f2a"."""
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """The complete environment; nothing is inherited."""
    sandbox: SandboxSpec | None = None
    """None is the machine's own view (Envoy, PostgreSQL)."""
    network: Namespace | None = None
    """Its network namespace; None is the region's own."""
    control_group: Path | None = None
    """The folder of its control group; see `memory.py`."""
    inside: Process | None = None
    """Run in the view of this sandboxed process (a container health check), with its network and limits; `sandbox`,
    `network` and `control_group` are ignored then.
    """
    log_file: Path | None = None
    """Output is appended to this file, unless `on_line` is set."""
    on_line: Callable[[str], None] | None = None
    """Called with each line of output, without its end, in order, on the event loop. Without either, output is dropped.
    """
    terminal: int | None = None
    """The descriptor of a pseudo-terminal for its input, output and controlling terminal, instead of these."""
    stop_signal: int = signal.SIGTERM
    user: tuple[int, int] | None = None
    """Its uid and gid when the region is root. None keeps root, in a sandbox with a container's capabilities."""


@dataclass(frozen=True)
class Exit:
    """How a process ended."""

    code: int
    """As ECS shows it: the exit code, or 128 + signal (137 for SIGKILL, 143 for SIGTERM)."""


class Process:
    """A running or ended child, created by Supervisor.start."""

    def __init__(
        self, spec: ProcessSpec, pid: int, output: _Output | None, on_end: Callable[[Process], None] | None
    ) -> None:
        self.spec = spec
        self.pid = pid
        self.name = spec.name
        self.started_at = time.time()
        """Seconds since the epoch."""
        self._output = output
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[Exit] = self._loop.create_future()
        self._descriptor = os.pidfd_open(pid)
        self._loop.add_reader(self._descriptor, self._end)

    @property
    def is_running(self) -> bool:
        """Whether the event loop has not seen the process's end yet."""
        return not self._exit.done()

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        return self._exit.result() if self._exit.done() else None

    async def wait(self) -> Exit:
        """Wait until the process has ended and `on_line` has got all of its output; returns how it ended."""
        return await asyncio.shield(self._exit)

    async def stop(self, timeout_seconds: float) -> Exit:
        """Send the stop signal, then SIGKILL to the whole group after `timeout_seconds`; return how it ended.

        Can be called more than once, and for an ended process.
        """
        self.send_signal(self.spec.stop_signal)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def send_signal(self, number: int) -> None:
        """Send a signal to the process itself. Process 1 of a sandbox ignores signals without a handler, unless it is
        an init.
        """
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        """SIGKILL the whole group now, without waiting."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.send_signal(signal.SIGKILL)

    def _end(self) -> None:
        """Kill the rest of an ended process's group, and read its last output and exit status."""
        self._loop.remove_reader(self._descriptor)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # the group's id is not reused before waitpid
        _, status = os.waitpid(self.pid, 0)
        os.close(self._descriptor)
        if self._output is not None:
            self._output.finish()
        code = os.waitstatus_to_exitcode(status)
        self._exit.set_result(Exit(code if code >= 0 else 128 - code))
        if self._on_end is not None:
            self._on_end(self)


class _Output:
    """Splits a child's output from a pipe into lines."""

    def __init__(
        self, descriptor: int, on_line: Callable[[str], None], on_end: Callable[[], None] | None = None
    ) -> None:
        self._descriptor = descriptor
        self._on_line = on_line
        self._on_end = on_end
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)
        self._is_open = True

    def finish(self) -> None:
        """Deliver the remaining output, and close the pipe."""
        while self._is_open and self._read():
            pass
        self._close()

    def _read(self) -> bool:
        """Deliver the lines that can be read now; returns whether there may be more."""
        try:
            chunk = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return False
        if not chunk:
            self._close()
            return False
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._give(line)
        while len(self._rest) > _LONGEST_LINE_BYTES:
            self._give(self._rest[:_LONGEST_LINE_BYTES])
            self._rest = self._rest[_LONGEST_LINE_BYTES:]
        return True

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            if self._rest:
                self._give(self._rest)
            if self._on_end is not None:
                self._on_end()

    def _give(self, line: bytes) -> None:
        self._on_line(line.decode(errors="replace").rstrip("\r"))


class Supervisor:
    """Starts the region's child processes and stops all of them.

    All methods are called on the event loop's thread, since a child is killed with the thread that started it.
    """

    def __init__(self, config: RegionConfig) -> None:
        self._record = ProcessRecord(config.home / "processes.json")
        self._processes: dict[int, Process] = {}

    @property
    def processes(self) -> tuple[Process, ...]:
        """The children that run."""
        return tuple(self._processes.values())

    async def start(self, spec: ProcessSpec) -> Process:
        """Start a program; returns once its `exec` has succeeded, after about 30 ms in a sandbox.

        Raises SandboxFailed with the failed step when the view cannot be created or the program cannot be started.
        """
        process = await start_process(spec, self._forget)
        self._processes[process.pid] = process
        self._save(process)
        return process

    async def stop_all(self, timeout_seconds: float = 5.0) -> None:
        """Stop all children in parallel, with SIGKILL after `timeout_seconds`."""
        await asyncio.gather(*(process.stop(timeout_seconds) for process in self.processes))

    def kill_leftovers(self) -> list[int]:
        """SIGKILL the processes that an earlier region of this home left and return their ids; call before `start`."""
        return self._record.kill()

    def _forget(self, process: Process) -> None:
        del self._processes[process.pid]
        self._save(process)

    def _save(self, changed: Process) -> None:
        """Record the processes, except those that end with the sandboxed process that they run inside."""
        if changed.spec.inside is None:
            self._record.write(pid for pid, process in self._processes.items() if process.spec.inside is None)


async def start_process(spec: ProcessSpec, on_end: Callable[[Process], None] | None = None) -> Process:
    """Start a program that no region records (a build's RUN); otherwise as Supervisor.start."""
    output_read, output_write = os.pipe() if spec.on_line is not None else (None, None)
    try:
        pid = await _launch(spec, output_write)
    except BaseException:
        if output_read is not None:
            os.close(output_read)
        raise
    finally:
        if output_write is not None:
            os.close(output_write)
    output = _Output(output_read, spec.on_line) if output_read is not None and spec.on_line is not None else None
    return Process(spec, pid, output, on_end)


async def _launch(spec: ProcessSpec, output_write: int | None) -> int:
    """Run the launcher for `spec` and return the program's process id once it runs."""
    status_read, status_write = os.pipe()
    status = _Status(status_read)
    with contextlib.ExitStack() as closing:
        closing.callback(status.close)
        with contextlib.ExitStack() as closing_early:
            closing_early.callback(os.close, status_write)
            job = os.memfd_create("alva-job")
            closing_early.callback(os.close, job)
            os.write(job, marshal.dumps(_job(spec, status_write)))
            os.lseek(job, 0, os.SEEK_SET)
            network = spec.network.descriptor if spec.network is not None and spec.inside is None else None
            if spec.terminal is not None:
                output_write = spec.terminal
            elif output_write is None:
                output_write = _open_log(spec.log_file)
                closing_early.callback(os.close, output_write)
            launcher = subprocess.Popen(  # noqa: ASYNC220 - forks and execs at once: the child must be this thread's
                [sys.executable, "-I", "-S", str(_LAUNCHER), str(job)],
                stdin=subprocess.DEVNULL if spec.terminal is None else spec.terminal,
                stdout=output_write,
                stderr=output_write,
                pass_fds=(job, status_write) if network is None else (job, status_write, network),
                start_new_session=True,
                env={},
                cwd="/",
            )
        try:
            await status.closed
        except BaseException:
            _kill_and_reap(launcher.pid)
            launcher.returncode = -signal.SIGKILL
            status.close()  # It reads the program's id, if the launcher has started the program.
            if status.pid not in (None, launcher.pid):
                _kill_and_reap(status.pid)
            raise
    if status.pid != launcher.pid:
        launcher.wait()  # it ends once it has started the program
    else:
        launcher.returncode = 0  # Process waits for it, not subprocess
    if status.pid is None or status.error is not None or not status.is_ready:
        if status.pid is not None:
            _kill_and_reap(status.pid)
        raise SandboxFailed(
            f"cannot start {spec.name}: {status.error or 'the launcher ended without a message'}",
            evidence=[f"command: {' '.join(spec.argv)[:200]}"],
            next_step=_next_step(status.error or ""),
        )
    return status.pid


class _Status:
    """The launcher's messages until the program runs."""

    def __init__(self, descriptor: int) -> None:
        self.pid: int | None = None
        self.error: str | None = None
        self.is_ready = False
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._output = _Output(descriptor, self._on_line, self._end)

    def close(self) -> None:
        self._output.finish()

    def _end(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def _on_line(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        match word:
            case "pid":
                self.pid = int(rest)
            case "error":
                self.error = rest
            case "ready":
                self.is_ready = True


def _job(spec: ProcessSpec, status: int) -> dict[str, object]:
    """The launcher's job, as plain values."""
    sandbox = spec.sandbox if spec.inside is None else None
    steps, base_environment = None, {}
    if sandbox is not None:
        base = find_base(sandbox.base)
        steps = lay_out(sandbox, base, spec.user)
        base_environment = {**base.environment, "HOME": "/root" if spec.user in (None, (0, 0)) else "/"}
    surroundings = spec if spec.inside is None else spec.inside.spec
    viewed = sandbox or (spec.inside.spec.sandbox if spec.inside is not None else None)
    return {
        "status": status,
        "join": spec.inside.pid if spec.inside is not None else None,
        "network": surroundings.network.descriptor if surroundings.network is not None else None,
        "control_group": str(surroundings.control_group) if surroundings.control_group is not None else None,
        "steps": steps,
        "terminal": spec.terminal is not None,
        "read_only_root": sandbox.read_only_root if sandbox is not None else False,
        "working_directory": viewed.working_directory if viewed is not None else "/",
        "user": spec.user,
        "init": list(init.ARGUMENTS) if sandbox is not None and sandbox.has_init else [],
        "argv": list(spec.argv),
        "environment": {**base_environment, **spec.environment},
    }


def _open_log(log_file: Path | None) -> int:
    if log_file is None:
        return os.open(os.devnull, os.O_WRONLY)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    return os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def _kill_and_reap(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _next_step(error: str) -> str | None:
    if "ENOSYS" in error:
        return f"use Linux 5.12 or later (this is {os.uname().release})"
    if "namespace" not in error:
        return None
    if os.geteuid() == 0:
        return (
            "root cannot create namespaces here; if this is a container, start it with --privileged, or with"
            " --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
        )
    return (
        "run as root, or allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1"
        " user.max_user_namespaces=10000 (Ubuntu: kernel.apparmor_restrict_unprivileged_userns=0)"
    )
