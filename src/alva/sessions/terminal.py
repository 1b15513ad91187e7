"""The terminal of the person who asked: raw while a session lasts, and as it was afterwards."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

NO_TERMINAL_SIZE = (300, 100)
"""Columns and rows where there is no terminal to ask, as in AWS's plugin: wide enough that few lines are broken."""


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Every key goes to the session (Ctrl-C and Ctrl-D too) until the block ends, however it ends."""
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def size(descriptor: int) -> tuple[int, int]:
    """Columns and rows of the terminal."""
    try:
        found = os.get_terminal_size(descriptor)
    except OSError:
        return NO_TERMINAL_SIZE
    # A terminal that nobody has told its size says 0.
    return (found.columns or NO_TERMINAL_SIZE[0], found.lines or NO_TERMINAL_SIZE[1])
