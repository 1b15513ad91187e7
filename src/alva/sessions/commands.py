"""Wraps the command so that the client learns its start, its end, and its exit code.

An ECS Exec session is a terminal: standard output and error are one stream, and the protocol carries no exit code (only
`NonInteractiveCommands` does, which ECS does not use). So the command runs in the container's `/bin/sh`, which marks
its start and end in the output with a random word. The client removes the marks.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_SCRIPT = """{prepare}trap : INT QUIT; printf '{mark}:begin:'; "$@"; printf '{mark}:%d:' $?"""
# No echo, and unchanged line ends: nobody looks at this terminal.
_PLAIN_TERMINAL = "stty -echo -opost 2>/dev/null; "


def wrapped(command: Sequence[str], mark: str, *, is_terminal: bool) -> str:
    """Return the command line for ExecuteCommand, which splits it as a shell would and runs it without one.

    `mark` is a random word; `is_terminal`, whether the user has a terminal.
    """
    script = _SCRIPT.format(mark=mark, prepare="" if is_terminal else _PLAIN_TERMINAL)
    return shlex.join(["/bin/sh", "-c", script, "sh", *command])


class Marks:
    """Removes the marks from an output that arrives in pieces."""

    def __init__(self, mark: str) -> None:
        self._mark = f"{mark}:".encode()
        self._held = b""
        self.has_begun = False
        self.exit_code: int | None = None
        """The command's exit code, once it has ended."""

    def feed(self, data: bytes) -> bytes:
        """Return the new output without marks."""
        data, self._held = self._held + data, b""
        shown = b""
        while (start := data.find(self._mark)) >= 0:
            shown += data[:start]
            word, colon, rest = data[start + len(self._mark) :].partition(b":")
            if not colon:
                self._held = data[start:]
                return shown
            if word == b"begin":
                self.has_begun = True
            elif word.isdigit():
                self.exit_code = int(word)
            data = rest
        for length in range(min(len(self._mark) - 1, len(data)), 0, -1):
            if data.endswith(self._mark[:length]):
                self._held = data[-length:]
                return shown + data[:-length]
        return shown + data

    def rest(self) -> bytes:
        """Return the held-back output that is not a mark."""
        rest, self._held = self._held, b""
        return rest
