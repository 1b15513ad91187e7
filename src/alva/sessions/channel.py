"""The client of a data channel: opens it, answers the handshake, and transfers input and output.

It behaves like AWS's plugin: aws/session-manager-plugin, src/datachannel. Two features are missing: a lost connection
is not resumed (ResumeSession), and a session encrypted with a KMS key is refused with an explanation.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alva.errors import AlvaError, SessionFailed
from alva.sessions import messages
from alva.sessions.messages import MalformedMessage, Message, PayloadType, acknowledgement
from alva.sessions.streams import MOST_PAYLOAD_BYTES, Incoming, Outgoing, PeerGone

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

CLIENT_VERSION = "1.2.764.0"
"""The plugin's version that this client reports: it determines what agents can request."""
OPEN_SECONDS = 20.0
PING_SECONDS = 60.0
_LOOK_SECONDS = 0.1
"""The interval of the check for late acknowledgements, as in the plugin."""
_SUCCESS, _FAILED, _UNSUPPORTED = 1, 2, 3

Headers = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Session:
    """The response of ExecuteCommand (or StartSession)."""

    id: str
    stream_url: str
    token: str


class DataChannel:
    """An open data channel. `run` transfers its data until the end; call `send_*` in the event loop's thread."""

    def __init__(self, session: Session, *, on_output: Callable[[bytes], None]) -> None:
        self._session = session
        self._on_output = on_output
        self._outgoing = Outgoing(messages.INPUT)
        self._incoming = Incoming()
        self._connection: ClientConnection | None = None
        self._unsent: asyncio.Queue[bytes | str] = asyncio.Queue()
        self._is_over = False
        self.exit_code: int | None = None
        """The exit code, if the other side reports it: ECS Exec does not."""
        self.closed_because = ""
        """The service's message at the end; empty after a normal end."""

    async def run(self, headers: Headers) -> None:
        """Open the channel and transfer its data until the service closes it.

        `headers` sign the request. Raises SessionFailed when the channel cannot be opened or is lost.
        """
        import websockets.asyncio.client
        from websockets.exceptions import ConnectionClosed, InvalidHandshake

        try:
            self._connection = await websockets.asyncio.client.connect(
                self._session.stream_url,
                additional_headers=dict(headers),
                open_timeout=OPEN_SECONDS,
                ping_interval=PING_SECONDS,
                ping_timeout=None,
                max_size=None,
                # Do not use a proxy for a region on this machine.
                proxy=None if self._session.stream_url.startswith("ws://") else True,
            )
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise SessionFailed(
                f"cannot open session {self._session.id}",
                evidence=[f"{type(error).__name__}: {error}"],
                next_step="run the same command again; a proxy or firewall must let ssmmessages.REGION.amazonaws.com "
                "through",
            ) from error
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._connection.send(self._opening())
            tasks = [asyncio.ensure_future(each) for each in (self._send(), self._send_again(), self._receive())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except ConnectionClosed as error:
            if not self._is_over:
                raise self._lost(str(error)) from error
        except PeerGone as error:
            raise self._lost("the other side no longer acknowledges messages") from error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._connection.close()
        if not self._is_over:
            raise self._lost("the connection ended without a message")

    def send_input(self, data: bytes) -> None:
        """Send input."""
        for start in range(0, len(data), MOST_PAYLOAD_BYTES):
            self._send_stream(PayloadType.OUTPUT, data[start : start + MOST_PAYLOAD_BYTES])

    def send_size(self, columns: int, rows: int) -> None:
        """Send the terminal's size."""
        self._send_stream(PayloadType.SIZE, json.dumps({"cols": columns, "rows": rows}).encode())

    # Out

    def _opening(self) -> str:
        return json.dumps(
            {
                "MessageSchemaVersion": "1.0",
                "RequestId": str(uuid.uuid4()),
                "TokenValue": self._session.token,
                "ClientId": str(uuid.uuid4()),
                "ClientVersion": CLIENT_VERSION,
            }
        )

    def _send_stream(self, payload_type: PayloadType, payload: bytes) -> None:
        self._unsent.put_nowait(self._outgoing.message(payload_type, payload, time.monotonic()).to_bytes())

    async def _send(self) -> None:
        assert self._connection is not None  # noqa: S101 - started by run
        while True:
            await self._connection.send(await self._unsent.get())

    async def _send_again(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if (late := self._outgoing.overdue(time.monotonic())) is not None:
                self._unsent.put_nowait(late.to_bytes())

    # In

    async def _receive(self) -> None:
        assert self._connection is not None  # noqa: S101 - started by run
        async for data in self._connection:
            try:
                self._take(Message.from_bytes(data if isinstance(data, bytes) else data.encode()))
            except MalformedMessage:
                continue  # without an acknowledgement, the agent sends it again
            if self._is_over:
                return

    def _take(self, message: Message) -> None:
        if message.type == messages.ACKNOWLEDGE:
            number = message.as_json().get("AcknowledgedMessageSequenceNumber")
            if isinstance(number, int):
                self._outgoing.acknowledge(number, time.monotonic())
        elif message.type == messages.CHANNEL_CLOSED:
            self.closed_because = str(message.as_json().get("Output") or "").strip()
            self._is_over = True
        elif message.type == messages.OUTPUT:
            is_taken, in_turn = self._incoming.take(message)
            if is_taken:
                self._unsent.put_nowait(acknowledgement(message).to_bytes())
            for each in in_turn:
                self._handle(each)

    def _handle(self, message: Message) -> None:
        match message.payload_type:
            case PayloadType.OUTPUT | PayloadType.STANDARD_ERROR | PayloadType.ERROR:
                self._on_output(message.payload)
            case PayloadType.HANDSHAKE_REQUEST:
                self._shake_hands(message.as_json())
            case PayloadType.EXIT_CODE:
                text = message.payload.decode(errors="replace").strip()
                self.exit_code = int(text) if text.isdigit() else None
            case _:
                pass  # the end of the handshake, and messages of port forwarding

    def _shake_hands(self, request: Mapping[str, Any]) -> None:
        """Answer the agent's requests: accept the session's type, and decline encryption."""
        processed, errors = [], []
        for action in request.get("RequestedClientActions") or []:
            kind = action.get("ActionType")
            status, error = _SUCCESS, ""
            if kind == "KMSEncryption":
                status, error = _FAILED, "this client does not encrypt sessions with a KMS key"
            elif kind != "SessionType":
                status, error = _UNSUPPORTED, f"Unsupported action {kind}"
            if error:
                errors.append(error)
            processed.append({"ActionType": kind, "ActionStatus": status, "ActionResult": None, "Error": error})
        answer = {"ClientVersion": CLIENT_VERSION, "ProcessedClientActions": processed, "Errors": errors}
        self._send_stream(PayloadType.HANDSHAKE_RESPONSE, json.dumps(answer).encode())
        if errors:
            raise SessionFailed(
                f"cannot use session {self._session.id}: {errors[0]}",
                evidence=[f"the agent asked for {', '.join(str(each['ActionType']) for each in processed)}"],
                next_step="aws ecs execute-command, with AWS's session-manager-plugin",
            )

    def _lost(self, why: str) -> AlvaError:
        return SessionFailed(
            f"cannot go on with session {self._session.id}: the connection was lost",
            evidence=[why],
            next_step="run the same command again; what it started in the task may still run",
        )
