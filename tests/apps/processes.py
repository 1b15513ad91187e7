"""A helper for processes of the tests: termination with the tests."""

from __future__ import annotations

import ctypes
import signal


def die_with_parent() -> None:
    """Run in a child before its program: the kernel kills it when the tests end (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
