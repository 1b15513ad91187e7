"""The user's terminal: raw during a session, and restored afterwards."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

NO_TERMINAL_SIZE = (300, 100)
"""Columns and rows without a terminal, as in AWS's plugin: wide enough to break few lines."""


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Send every key to the session (Ctrl-C and Ctrl-D too) until the block ends."""
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def size(descriptor: int) -> tuple[int, int]:
    """Return the columns and rows of the terminal."""
    try:
        found = os.get_terminal_size(descriptor)
    except OSError:
        return NO_TERMINAL_SIZE
    # A terminal without a size reports 0.
    return (found.columns or NO_TERMINAL_SIZE[0], found.lines or NO_TERMINAL_SIZE[1])
