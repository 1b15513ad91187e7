"""Helpers for processes of the tests: a free port, and termination with the tests."""

from __future__ import annotations

import ctypes
import signal
import socket


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def die_with_parent() -> None:
    """Run in a child before its program: the kernel kills it when the tests end (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
