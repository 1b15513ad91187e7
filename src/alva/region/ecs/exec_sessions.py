"""The sessions of ECS Exec: opened by ExecuteCommand, used once over a WebSocket, ended by TerminateSession.

They replace AWS's message gateway and the agent in the task. The data channel is served at the API's port, at
/v1/data-channel/SESSION.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from alva.region.background import Background
from alva.region.ecs.data_channel import ExecAgent
from alva.region.ecs.model import Json
from alva.region.log_stream import LogStream
from alva.region.sandbox import find_base
from alva.region.supervisor import Process, ProcessSpec, Supervisor

logger = logging.getLogger(__name__)

PATH = "/v1/data-channel/"
IDLE_SECONDS = 20 * 60.0
"""The idle timeout of a session; AWS has no setting for it.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-exec.html"""
_UNUSED_SECONDS = 60.0
"""How long a token is valid before the client connects."""
_REFUSED = 1008  # WebSocket's "policy violation"

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


@dataclass(kw_only=True)
class ExecSession:
    """A session: the command and its container, and the token that opens the session once."""

    argv: tuple[str, ...]
    container: Process
    environment: Json
    log: LogStream | None
    id: str = field(default_factory=lambda: f"ecs-execute-command-{secrets.token_hex(9)[:17]}")
    token: str = field(default_factory=lambda: secrets.token_urlsafe(64))
    agent: ExecAgent | None = None

    def spec(self, terminal: int) -> ProcessSpec:
        """The process that the agent starts. It runs as root, also in a container with another user.

        "The SSM agent and its child processes run as root even when you specify a user ID for the container."
        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-exec.html
        """
        sandbox = self.container.spec.sandbox
        base = find_base(sandbox.base).environment if sandbox is not None else {}
        return ProcessSpec(
            name=self.id,
            argv=self.argv,
            # The agent sets TERM and, where there is none, LANG: agent/session/shell/shell_unix.go
            environment={**base, "LANG": "C.UTF-8", "HOME": "/root", **self.environment, "TERM": "xterm-256color"},
            inside=self.container,
            terminal=terminal,
        )


class ExecSessions:
    """Sessions that wait for their client or run. They end with the region."""

    def __init__(self, supervisor: Supervisor, background: Background, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self.background = background
        self._supervisor = supervisor
        self._idle_seconds = idle_seconds
        self._sessions: dict[str, ExecSession] = {}

    def open(self, session: ExecSession) -> None:
        """Add a session, which then waits for its client."""
        self._sessions[session.id] = session
        asyncio.get_running_loop().call_later(_UNUSED_SECONDS, self._forget_unused, session)

    def terminate(self, session_id: str) -> bool:
        """End a session; returns whether it exists."""
        session = self._sessions.get(session_id)
        if session is None:
            return False
        if session.agent is None:
            del self._sessions[session_id]
        else:
            session.agent.end("")
        return True

    def _forget_unused(self, session: ExecSession) -> None:
        if session.agent is None:
            self._sessions.pop(session.id, None)

    async def serve(self, scope: Json, receive: Receive, send: Send) -> None:
        """Serve one WebSocket: check the client's token, then run the session."""
        await receive()  # websocket.connect
        path = str(scope.get("path", ""))
        session = self._sessions.get(path.removeprefix(PATH)) if path.startswith(PATH) else None
        if session is None:
            await send({"type": "websocket.close", "code": _REFUSED})
            return
        await send({"type": "websocket.accept"})
        if not _knows_token(session, await receive()) or session.agent is not None:
            await send({"type": "websocket.close", "code": _REFUSED})
            return
        session.agent = ExecAgent(session.id, send, log=session.log, idle_seconds=self._idle_seconds)
        try:
            await session.agent.run(receive, lambda terminal: self._supervisor.start(session.spec(terminal)))
        except Exception:
            logger.exception("session %s failed", session.id)
        finally:
            self._sessions.pop(session.id, None)
            if session.log is not None:
                await session.log.close()


def _knows_token(session: ExecSession, event: Json) -> bool:
    """Whether the first message carries the session's token: OpenDataChannelInput, as the plugin sends it."""
    try:
        token = json.loads(event.get("text") or event.get("bytes") or b"{}").get("TokenValue")
    except (ValueError, AttributeError):
        return False
    return isinstance(token, str) and hmac.compare_digest(token.encode(), session.token.encode())
