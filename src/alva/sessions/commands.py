"""What is run in the task so that the client knows when it begins, when it ends, and with which exit code.

A session of ECS Exec is a terminal: standard output and error are one stream, and AWS's protocol carries no exit code
(only `NonInteractiveCommands`, which ECS does not start, does). So the command runs under the container's own
`/bin/sh`, which marks its beginning and its end in the output, by a word nobody can know beforehand; the client takes
the marks out.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_SCRIPT = """{prepare}trap : INT QUIT; printf '{mark}:begin:'; "$@"; printf '{mark}:%d:' $?"""
# No echo of what is sent, and lines end as the program ends them: nobody looks at this terminal.
_PLAIN_TERMINAL = "stty -echo -opost 2>/dev/null; "


def wrapped(command: Sequence[str], mark: str, *, is_terminal: bool) -> str:
    """The command line for ExecuteCommand, which splits it as a shell would and runs it without one.

    `mark` is a random word; `is_terminal`, whether a person sits at the other end.
    """
    script = _SCRIPT.format(mark=mark, prepare="" if is_terminal else _PLAIN_TERMINAL)
    return shlex.join(["/bin/sh", "-c", script, "sh", *command])


class Marks:
    """Takes the marks out of an output that comes in pieces."""

    def __init__(self, mark: str) -> None:
        self._mark = f"{mark}:".encode()
        self._held = b""
        self.has_begun = False
        self.exit_code: int | None = None
        """The command's, once it has ended."""

    def feed(self, data: bytes) -> bytes:
        """What of the output so far may be shown."""
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
        """What was held back and turned out to be no mark."""
        rest, self._held = self._held, b""
        return rest
