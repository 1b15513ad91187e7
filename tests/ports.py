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
from typing import IO

BLOCK = 200
"""The number of ports of a process."""
BLOCKS = range(20_000, 32_600, BLOCK)


def reserve(kind: str, numbers: range) -> tuple[int, IO[str]]:
    """Reserve the first of `numbers` that no process of this user's tests has reserved, until the file is closed.

    Raises RuntimeError if all are reserved.
    """
    for number in numbers:
        lock = (Path(tempfile.gettempdir()) / f"alva-test-{os.getuid()}-{kind}-{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return number, lock
    raise RuntimeError(f"other processes of tests have reserved all {len(numbers)} of {kind}")


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
    """Repeat the ports of this process without end. They are reserved until it ends."""
    first, lock = reserve("ports", BLOCKS)
    with lock:
        while True:
            yield from range(first, first + BLOCK)
