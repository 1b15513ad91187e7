"""TerminateSession for ECS Exec's sessions, which MiniStack's Systems Manager does not have."""

from __future__ import annotations

import json
from typing import Any

from alva.region.ecs.exec_sessions import ExecSessions

_TERMINATE = "AmazonSSM.TerminateSession"


def install(sessions: ExecSessions) -> None:
    """Answer TerminateSession, and pass all other actions to Systems Manager."""
    from ministack import app

    others = app.SERVICE_HANDLERS["ssm"]

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> tuple[int, dict[str, str], bytes]:
        if headers.get("x-amz-target") != _TERMINATE:
            answer: tuple[int, dict[str, str], bytes] = await others(method, path, headers, body, query_params)
            return answer
        session_id = str(json.loads(body or b"{}").get("SessionId"))
        status, content = 200, {"SessionId": session_id}
        if not sessions.terminate(session_id):
            status, content = (
                400,
                {"__type": "DoesNotExistException", "message": f"Session {session_id} does not exist"},
            )
        return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(content).encode()

    app.SERVICE_HANDLERS["ssm"] = handle
