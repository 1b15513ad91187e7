"""The agent's side of a data channel: connects a program in a pseudo-terminal to a WebSocket.

It behaves as aws/amazon-ssm-agent does in a container (agent/session/shell, agent/session/datachannel): no handshake,
since only encrypted sessions have one; output in messages of 1024 bytes; no exit code at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import struct
import termios
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from alva.errors import SandboxFailed
from alva.region.log_stream import LogStream
from alva.region.supervisor import Process
from alva.sessions import messages
from alva.sessions.messages import MalformedMessage, Message, PayloadType, acknowledgement
from alva.sessions.streams import MOST_PAYLOAD_BYTES, Incoming, Outgoing, PeerGone

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_MOST_UNACKNOWLEDGED = 1000
"""Limit of unacknowledged output. Above it, the channel stops reading from the terminal."""
_LAST_ACKNOWLEDGEMENT_SECONDS = 5.0
"""How long the end of a session waits for the client to acknowledge the last output."""

Start = Callable[[int], Awaitable[Process]]
"""Starts the program on this descriptor of a pseudo-terminal."""


class ExecAgent:
    """One session, from its first message to its last."""

    def __init__(
        self,
        session_id: str,
        send: Callable[[Any], Awaitable[None]],
        *,
        log: LogStream | None,
        idle_seconds: float,
    ) -> None:
        self._session_id = session_id
        self._send = send
        self._log = log
        self._idle_seconds = idle_seconds
        self._outgoing = Outgoing(messages.OUTPUT)
        self._incoming = Incoming()
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[str] = self._loop.create_future()
        self._last_heard = time.monotonic()
        self._terminal = -1
        self._is_reading = False
        self._typed = b""
        self._line = b""

    def end(self, output: str) -> None:
        """End the session; the client shows `output`, which is empty without an error."""
        if not self._ending.done():
            self._ending.set_result(output)

    async def run(self, receive: Callable[[], Awaitable[Any]], start: Start) -> None:
        """Run the session. Returns once the client has acknowledged its end, or has disconnected."""
        self._terminal, inside = os.openpty()
        os.set_blocking(self._terminal, False)
        tasks = [
            asyncio.ensure_future(self._end_on_failure(each))
            for each in (self._send_output(), self._resend_and_time_out(), self._receive(receive))
        ]
        process = None
        try:
            try:
                process = await start(inside)
            except SandboxFailed as error:
                # The agent's message around the reason, agent/session/shell/shell.go
                self.end(f"Unable to start command: Failed to start pty: {error.message.partition(': ')[2]}")
            finally:
                os.close(inside)
            if process is not None:
                self._begin_reading()
                tasks.append(asyncio.ensure_future(self._end_on_failure(self._follow(process))))
            output = await self._ending
            self._stop_reading()
            if process is not None:
                process.kill()
            if not tasks[2].done():  # the client has connected
                await self._close(output)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._stop_reading()
            self._loop.remove_writer(self._terminal)
            os.close(self._terminal)
            if self._log is not None and self._line:
                self._log.write(self._line.decode(errors="replace").rstrip("\r"))

    async def _end_on_failure(self, work: Coroutine[Any, Any, None]) -> None:
        """End the session if one of its loops fails; without it the session would hang."""
        try:
            await work
        except Exception as error:
            logger.exception("session %s ends", self._session_id)
            self.end(f"The session ended because of an error in the local region: {type(error).__name__}: {error}")

    async def _follow(self, process: Process) -> None:
        await process.wait()
        more = True
        while more:  # the program's last output
            more = self._read()
        self.end("")

    async def _close(self, output: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_ACKNOWLEDGEMENT_SECONDS):
                while not self._outgoing.is_settled:  # noqa: ASYNC110 - acknowledgements come one by one
                    await asyncio.sleep(0.01)
        closed = {
            "MessageType": messages.CHANNEL_CLOSED,
            "MessageId": str(uuid.uuid4()),
            "DestinationId": self._session_id,
            "SessionId": self._session_id,
            "SchemaVersion": 1,
            "CreatedDate": str(int(time.time() * 1000)),
            "Output": output,
        }
        last = Message(type=messages.CHANNEL_CLOSED, payload=json.dumps(closed).encode())
        with contextlib.suppress(Exception):  # the client may have disconnected
            await self._send({"type": "websocket.send", "bytes": last.to_bytes()})
            await self._send({"type": "websocket.close", "code": 1000})

    # To the client

    async def _send_output(self) -> None:
        while True:
            await self._send({"type": "websocket.send", "bytes": await self._unsent.get()})

    async def _resend_and_time_out(self) -> None:
        """Send unacknowledged messages again, and end an idle session."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            now = time.monotonic()
            try:
                late = self._outgoing.overdue(now)
            except PeerGone:
                self.end("")
                return
            if late is not None:
                self._unsent.put_nowait(late.to_bytes())
            if now - self._last_heard > self._idle_seconds:
                self.end("Your session timed out due to inactivity.")
                return

    def _begin_reading(self) -> None:
        if not self._is_reading and not self._ending.done():
            self._is_reading = True
            self._loop.add_reader(self._terminal, self._read)

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._terminal)

    def _read(self) -> bool:
        """Send the program's output to the client; returns whether there was any."""
        try:
            data = os.read(self._terminal, MOST_PAYLOAD_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # EIO: no process has the other end open
            data = b""
        if not data:
            self._stop_reading()
            return False
        self._last_heard = time.monotonic()
        self._keep(data)
        self._unsent.put_nowait(self._outgoing.message(PayloadType.OUTPUT, data, self._last_heard).to_bytes())
        if len(self._outgoing) >= _MOST_UNACKNOWLEDGED:
            self._stop_reading()
        return True

    def _keep(self, data: bytes) -> None:
        """Write output to the transcript, line by line."""
        if self._log is None:
            return
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._log.write(line.decode(errors="replace").rstrip("\r"))

    # From the client

    async def _receive(self, receive: Callable[[], Awaitable[Any]]) -> None:
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                self.end("")
                return
            try:
                # The agent does not check digests: agent/session/contracts/agentmessage.go, Validate.
                message = Message.from_bytes(event.get("bytes") or b"", check_digest=False)
                self._take(message)
            except MalformedMessage:
                continue

    def _take(self, message: Message) -> None:
        if message.type == messages.ACKNOWLEDGE:
            number = message.as_json().get("AcknowledgedMessageSequenceNumber")
            if isinstance(number, int):
                self._outgoing.acknowledge(number, time.monotonic())
            if len(self._outgoing) < _MOST_UNACKNOWLEDGED:
                self._begin_reading()
        elif message.type == messages.INPUT:
            is_taken, in_turn = self._incoming.take(message)
            if is_taken:
                self._unsent.put_nowait(acknowledgement(message).to_bytes())
            for each in in_turn:
                self._handle(each)

    def _handle(self, message: Message) -> None:
        self._last_heard = time.monotonic()
        if message.payload_type == PayloadType.OUTPUT:
            self._typed += message.payload
            self._write()
        elif message.payload_type == PayloadType.SIZE:
            size = message.as_json()
            packed = struct.pack("HHHH", int(size.get("rows", 0)), int(size.get("cols", 0)), 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, packed)

    def _write(self) -> None:
        """Write the client's input to the terminal, as fast as it accepts it."""
        try:
            self._typed = self._typed[os.write(self._terminal, self._typed) :]
        except BlockingIOError:
            pass
        except OSError:
            self._typed = b""  # the program has ended
        if self._typed:
            self._loop.add_writer(self._terminal, self._write)
        else:
            self._loop.remove_writer(self._terminal)
