"""Ports for servers that tests start.

A port that is free when a test chooses it can be in use when the server binds it: the system may give it to another
connection. It takes those from its ephemeral range (32768 to 60999 by default). Tests use ports below it, and each
process of the tests has its own.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

BLOCK = 200
"""The number of ports of a process."""
BLOCKS = range(20_000, 32_600, BLOCK)


def lock_file(name: str) -> Path:
    """The file that this user's processes of tests lock to reserve something. Another user cannot open it."""
    return Path(tempfile.gettempdir()) / f"alva-test-{os.getuid()}-{name}.lock"


def free_port() -> int:
    """Return a port to which no server is bound, and which no other process of tests uses."""
    for port in itertools.islice(_own_ports(), BLOCK):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"all {BLOCK} ports of this process are in use")


@functools.cache
def _own_ports() -> Iterator[int]:
    """The ports of this process, in turn. The lock of their block is kept until the process ends."""
    for first in BLOCKS:
        lock = lock_file(f"ports-{first}").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return _cycle_with(lock, range(first, first + BLOCK))
    raise RuntimeError(f"all blocks of ports from {BLOCKS.start} to {BLOCKS.stop} are locked")


def _cycle_with(_lock: object, ports: range) -> Iterator[int]:
    """Repeat the ports without end. The generator holds the lock."""
    while True:
        yield from ports
