"""Starts, stops and inspects a region's process, for the command line.

A region holds a lock on `<home>/region.lock` while it runs, with its process id in the file. A process id alone does
not prove that a region runs: another program can have the same id later.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from alva.errors import RegionFailed
from alva.region import memory
from alva.region.config import RegionConfig
from alva.region.ports import port_in_use

POLL_SECONDS = 0.02
LOG_LINES_SHOWN = 12
DELETION_WAIT_SECONDS = 1.0
_WIPED_PREFIX = ".wiped-"


FAILURES_PATH = "/_alva/failures"
"""The path, at the API's port, that returns the failures of the region's background work."""
ANSWER_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class RegionStatus:
    """Whether a region runs, and as which process."""

    is_running: bool
    """Whether its API answers and its data plane was started."""
    is_starting_or_stopping: bool = False
    pid: int | None = None
    started_at: datetime | None = None
    network: str = "unknown"
    """A description of its network."""
    enforces_security_groups: bool = False
    """Whether security groups are enforced."""
    memory_limits: str = "unknown"
    """A description of how tasks' memory is limited."""
    adverse_conditions: float = 0.0
    """The divisor of AWS's delays (see `adverse_conditions.py`); 0 is off."""


def start(config: RegionConfig, *, timeout_seconds: float = 60.0) -> None:
    """Start the region as a detached process and return when it serves; does nothing when it runs already.

    Raises RegionFailed when a port is in use, the disk is full, or the region ends while it starts (with the last lines
    of its log).
    """
    deadline = time.monotonic() + timeout_seconds
    if _wait_for_start_or_stop(config, deadline):
        return
    _refuse_taken_ports(config)
    log_file = config.logs_folder / "region.log"
    try:
        config.logs_folder.mkdir(parents=True, exist_ok=True)
        config.running_file.unlink(missing_ok=True)
        log = log_file.open("ab")
        log.write(b"")
    except OSError as error:
        raise RegionFailed(
            "cannot start the local region: its folder cannot be written",
            evidence=[f"{config.home}: {error.strerror}"],
            next_step="free some space or fix the folder's permissions, or choose another with ALVA_HOME",
        ) from error
    with log:
        began_at = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "alva.region"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **environment_of(config)},
            cwd="/",
        )
    while not config.running_file.exists():
        code = process.poll()
        if code is not None:
            raise _start_error(log_file, began_at, code)
        if time.monotonic() > deadline:
            process.terminate()
            raise RegionFailed(
                f"cannot start the local region: it did not serve within {timeout_seconds:.0f} s",
                evidence=_tail(log_file, began_at),
                next_step=f"see {log_file}",
            )
        time.sleep(POLL_SECONDS)
    # The daemon outlives this process, which does not wait for it.
    process.returncode = 0


def stop(config: RegionConfig, *, timeout_seconds: float = 5.0) -> bool:
    """Stop the region and all processes that it started; True if any ran. Also ends processes that a killed region
    left.

    A region that does not end within `timeout_seconds` is killed. Its data are safe: each engine has a write-ahead log.
    """
    pid = _lock_holder(config)
    if pid is not None:
        _end(pid, timeout_seconds)
    leftovers = _kill_leftovers(config)
    memory.remove_all(config.home)
    config.running_file.unlink(missing_ok=True)
    return pid is not None or bool(leftovers)


def status(config: RegionConfig) -> RegionStatus:
    """Whether a region of this home runs, by its lock and not by its running file."""
    pid = _lock_holder(config)
    if pid is None:
        return RegionStatus(is_running=False)
    running = _read_running_file(config)
    if running is None or running.get("pid") != pid:
        return RegionStatus(is_running=False, is_starting_or_stopping=True, pid=pid)
    return RegionStatus(
        is_running=True,
        pid=pid,
        started_at=datetime.fromisoformat(running["started_at"]),
        network=running.get("network_description", "unknown"),
        enforces_security_groups=bool(running.get("enforces_security_groups", False)),
        memory_limits=running.get("memory_limits", "unknown"),
        adverse_conditions=float(running.get("adverse_conditions", 0)),
    )


def failures(config: RegionConfig) -> list[dict[str, Any]] | None:
    """Failures of a running region's background work: `name`, `error`, `since`, `count` of each; the oldest first.

    None when the region does not answer within `ANSWER_SECONDS`.
    """
    connection = HTTPConnection("127.0.0.1", config.api_port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", FAILURES_PATH)
        answer: list[dict[str, Any]] = json.loads(connection.getresponse().read())["failures"]
    except (OSError, HTTPException, ValueError, KeyError):
        return None
    finally:
        connection.close()
    return answer


def wipe(config: RegionConfig) -> None:
    """Stop the region and delete its data: state, images, logs.

    The folders are renamed at once and then deleted. An image store has many thousand files, so after
    `DELETION_WAIT_SECONDS` the deletion continues in the background.
    """
    stop(config)
    folders = (config.state_folder, config.run_folder, config.images_folder, config.logs_folder)
    doomed = config.home / f"{_WIPED_PREFIX}{time.time_ns()}"
    for folder in folders:
        if folder.exists():
            doomed.mkdir(exist_ok=True)
            folder.rename(doomed / folder.name)
    for file in (config.running_file, _lock_file(config), config.home / "processes.json"):
        file.unlink(missing_ok=True)
    _delete_wiped(config)


def _delete_wiped(config: RegionConfig) -> None:
    """Delete the folders that `wipe` has renamed, also those of an interrupted call."""
    remains = [str(folder) for folder in config.home.glob(f"{_WIPED_PREFIX}*")]
    if not remains:
        return
    deletion = subprocess.Popen(
        ["rm", "-rf", "--", *remains],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deletion.wait(DELETION_WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        # It outlives this process, which does not wait for it.
        deletion.returncode = 0


def environment_of(config: RegionConfig) -> dict[str, str]:
    """The environment variables from which `RegionConfig.from_environment` makes this configuration."""
    return {
        "ALVA_HOME": str(config.home),
        "ALVA_API_PORT": str(config.api_port),
        "ALVA_EDGE_PORT": str(config.edge_port),
        "ALVA_EDGE_TLS_PORT": str(config.edge_tls_port),
        "ALVA_INBOX_PORT": str(config.inbox_port),
        "ALVA_LOOPBACK_OCTET": str(config.loopback_octet),
        "ALVA_NETWORK": config.network,
        "ALVA_ADVERSE_CONDITIONS": str(config.adverse_conditions),
    }


def hold_lock(config: RegionConfig) -> int:
    """Called by the region itself: take the lock for the life of the process. The caller keeps the returned descriptor
    open.

    Raises RegionFailed when another region of the same home has it.
    """
    descriptor = os.open(_lock_file(config), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode().strip() or "unknown"
        os.close(descriptor)
        raise RegionFailed(
            "cannot start the local region: it runs already",
            evidence=[f"process {holder} holds {_lock_file(config)}"],
            next_step="use it, or stop it with ./alva down",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _lock_file(config: RegionConfig) -> Path:
    return config.home / "region.lock"


def _lock_holder(config: RegionConfig) -> int | None:
    """The process id of the region of this home, None when there is none."""
    try:
        descriptor = os.open(_lock_file(config), os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        # The region takes the lock shortly before it writes its process id.
        for _ in range(50):
            if contents := os.pread(descriptor, 32, 0).decode().strip():
                return int(contents)
            time.sleep(POLL_SECONDS)
        raise RegionFailed(
            "cannot find the process of the local region",
            evidence=[f"{_lock_file(config)} is locked and empty"],
            next_step=f"find the process with: fuser {_lock_file(config)}",
        ) from None
    finally:
        os.close(descriptor)
    return None


def _wait_for_start_or_stop(config: RegionConfig, deadline: float) -> bool:
    """Wait while a region is starting or stopping; returns whether one runs then."""
    while (seen := status(config)).is_starting_or_stopping:
        if time.monotonic() > deadline:
            raise RegionFailed(
                "cannot start the local region: another start or stop of it does not finish",
                evidence=[f"process {seen.pid}", *_tail(config.logs_folder / "region.log", 0)],
                next_step="run ./alva down, then try again",
            )
        time.sleep(POLL_SECONDS)
    return seen.is_running


def _refuse_taken_ports(config: RegionConfig) -> None:
    ports = {
        "ALVA_API_PORT": config.api_port,
        "ALVA_EDGE_PORT": config.edge_port,
        "ALVA_EDGE_TLS_PORT": config.edge_tls_port,
        "ALVA_INBOX_PORT": config.inbox_port,
    }
    for variable, port in ports.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                raise port_in_use("start the local region", "127.0.0.1", port, variable, error) from error


def _end(pid: int, timeout_seconds: float) -> None:
    """Send SIGTERM, then SIGKILL; returns when the process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number, seconds in ((signal.SIGTERM, timeout_seconds), (signal.SIGKILL, 5.0)):
            try:
                signal.pidfd_send_signal(descriptor, number)
            except ProcessLookupError:
                return
            if select.select([descriptor], [], [], seconds)[0]:
                return
    finally:
        os.close(descriptor)
    raise RegionFailed(
        f"cannot stop the local region: process {pid} does not end",
        evidence=["it still runs after SIGKILL"],
        next_step=f"see what it waits for: cat /proc/{pid}/stack",
    )


def _start_error(log_file: Path, began_at: int, code: int) -> RegionFailed:
    """The error of a region that ended while it started: its own error, or the end of its log."""
    lines = _tail(log_file, began_at)
    try:
        failure: Mapping[str, Any] = json.loads(lines[-1])
        return RegionFailed(failure["message"], evidence=failure["evidence"], next_step=failure["next"])
    except (IndexError, ValueError, KeyError, TypeError):
        return RegionFailed(
            f"cannot start the local region: it ended with code {code}", evidence=lines, next_step=f"see {log_file}"
        )


def _tail(log_file: Path, began_at: int) -> list[str]:
    try:
        with log_file.open("rb") as log:
            log.seek(began_at)
            return log.read().decode(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    except FileNotFoundError:
        return []


def _read_running_file(config: RegionConfig) -> dict[str, Any] | None:
    try:
        contents: dict[str, Any] = json.loads(config.running_file.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return contents


def _kill_leftovers(config: RegionConfig) -> list[int]:
    from alva.region.process_record import ProcessRecord

    return ProcessRecord(config.home / "processes.json").kill()
