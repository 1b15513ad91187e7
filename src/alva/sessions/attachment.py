"""Connects a data channel to this process's standard input and output until the command in the task has ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alva.errors import SessionFailed
from alva.sessions import terminal
from alva.sessions.channel import DataChannel, Session
from alva.sessions.commands import Marks

_END_OF_FILE = b"\x04"
"""Ctrl-D: a terminal's end of input, at the beginning of a line."""
_READ_BYTES = 1024


@dataclass(frozen=True, kw_only=True)
class Ends:
    """The file descriptors of a session."""

    input: int = 0
    output: int = 1

    @property
    def is_terminal(self) -> bool:
        """Whether a person is there: both are a terminal."""
        return os.isatty(self.input) and os.isatty(self.output)


async def attach(session: Session, headers: Mapping[str, str], mark: str, ends: Ends) -> int:
    """Run the session to its end; return the command's exit code.

    Raises SessionFailed when the session cannot be opened or is lost, or when the command did not start or finish.
    """
    attachment = _Attachment(session, mark, ends)
    return await attachment.run(headers)


class _Attachment:
    def __init__(self, session: Session, mark: str, ends: Ends) -> None:
        self._session = session
        self._ends = ends
        self._marks = Marks(mark)
        self._loop = asyncio.get_running_loop()
        self._channel = DataChannel(session, on_output=self._show)
        self._raw = contextlib.ExitStack()
        self._is_reading = False
        self._was_shown = False

    async def run(self, headers: Mapping[str, str]) -> int:
        self._tell_size()
        if self._ends.is_terminal:
            self._loop.add_signal_handler(signal.SIGWINCH, self._tell_size)
        try:
            with self._raw:
                await self._channel.run(headers)
                self._write(self._marks.rest())
        finally:
            if self._ends.is_terminal:
                self._loop.remove_signal_handler(signal.SIGWINCH)
        exit_code = self._marks.exit_code if self._marks.exit_code is not None else self._channel.exit_code
        if exit_code is not None:
            return exit_code
        raise SessionFailed(
            f"cannot read the exit code: session {self._session.id} ended before the command"
            if self._marks.has_begun
            else f"cannot start the command in session {self._session.id}",
            evidence=[self._channel.closed_because or "the task stopped, or somebody ended the session"],
            next_step="./alva status"
            if self._marks.has_begun
            else "the image must have /bin/sh; see also ./alva status",
        )

    def _tell_size(self) -> None:
        self._channel.send_size(*terminal.size(self._ends.output))

    # From the task

    def _show(self, data: bytes) -> None:
        if not self._was_shown:
            # The agent drops a size that arrives before it has skipped the handshake, which it has by its first output:
            # aws/amazon-ssm-agent, agent/session/datachannel/datachannel.go.
            self._was_shown = True
            self._tell_size()
        self._write(self._marks.feed(data))
        if self._marks.has_begun and not self._is_reading:
            self._is_reading = True
            self._begin_input()

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._ends.output, data) :]
            except BlockingIOError:
                continue

    # To the task

    def _begin_input(self) -> None:
        """Start to send input: the command runs, and its terminal is ready."""
        if self._ends.is_terminal:
            self._raw.enter_context(terminal.raw(self._ends.input))
        # A thread, because a file cannot be polled as a terminal or a pipe can. It ends with the process.
        threading.Thread(target=self._read, daemon=True, name="session input").start()

    def _read(self) -> None:
        last = b"\n"
        while data := _read_some(self._ends.input):
            last = data[-1:]
            if not self._give(data):
                return
        # An unfinished line needs two: the first one sends the line.
        self._give(_END_OF_FILE if last == b"\n" else 2 * _END_OF_FILE)

    def _give(self, data: bytes) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._channel.send_input, data)
        except RuntimeError:
            return False  # the session has ended
        return True


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _READ_BYTES)
    except OSError:
        return b""


def words(command: Sequence[str], *, is_terminal: bool) -> tuple[str, ...]:
    """Return the command, or a shell if there is none (without a prompt if there is no terminal)."""
    if command:
        return tuple(command)
    return ("/bin/sh",) if is_terminal else ("env", "PS1=", "PS2=", "/bin/sh")
