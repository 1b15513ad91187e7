"""Requests to the region's API as values, for code that accepts or refuses them before a service handles them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from alva.region.asgi import ASGIApplication, requested_action

SESSION_KEY_PREFIX = "ASIA"
"""The prefix of temporary credentials' access keys (AWS: "IAM identifiers")."""

Response = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


@dataclass(frozen=True)
class Request:
    """A request's action and its caller."""

    service: str
    """The service's signing name."""
    action: str
    access_key: str
    method: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, list[str]]
    body: bytes

    @property
    def is_session(self) -> bool:
        """Whether it is signed with temporary credentials."""
        return self.access_key.startswith(SESSION_KEY_PREFIX)

    def member(self, name: str) -> Any:
        """A top-level member of the request, in a form or in JSON; None if it is missing."""
        if self.body.startswith(b"{"):
            try:
                return json.loads(self.body).get(name)
            except (ValueError, RecursionError):
                return None
        values = self.form.get(name) or self.query.get(name)
        return values[0] if values else None

    @property
    def form(self) -> dict[str, list[str]]:
        """The body as a form; empty for JSON."""
        return {} if self.body.startswith(b"{") else parse_qs(self.body.decode("utf-8", errors="replace"))


def intercept(
    application: ASGIApplication,
    answer: Callable[[Request, Callable[[], Awaitable[Response]]], Awaitable[Response | None]],
) -> ASGIApplication:
    """Wrap an application with a decision about each HTTP request.

    `answer` gets the request and a function that returns the application's response. It returns the response to send,
    or None: then the application answers.
    """

    async def intercepted(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        request, messages = await _read(scope, receive)

        async def receive_again() -> Any:
            return messages.pop(0) if messages else await receive()

        response = await answer(request, lambda: _respond(application, scope, receive_again))
        if response is None:
            await application(scope, receive_again, send)
        else:
            await _send(send, response)

    return intercepted


async def _read(scope: dict[str, Any], receive: Any) -> tuple[Request, list[dict[str, Any]]]:
    """A request with its body, and its ASGI messages. The body of an upload to S3 is not read."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", ())}
    credential = headers.get("authorization", "").partition("Credential=")[2].split("/")
    service = credential[3] if len(credential) > 3 else ""
    messages: list[dict[str, Any]] = []
    while service != "s3":
        messages.append(await receive())
        if messages[-1]["type"] != "http.request" or not messages[-1].get("more_body"):
            break
    body = b"".join(message.get("body", b"") for message in messages)
    request = Request(
        service=service,
        action=requested_action(scope, body)[1],
        access_key=credential[0],
        method=scope["method"],
        path=unquote(scope.get("path", "")),
        headers=headers,
        query=parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True),
        body=body,
    )
    return request, messages


async def _send(send: Any, response: Response) -> None:
    """Send a response through ASGI."""
    status, headers, body = response
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def _respond(application: ASGIApplication, scope: dict[str, Any], receive: Any) -> Response:
    """The response of an ASGI application, without its Content-Length: a caller may change the body."""
    sent: list[dict[str, Any]] = []

    async def keep(message: dict[str, Any]) -> None:
        sent.append(message)

    await application(scope, receive, keep)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    headers.pop("content-length", None)
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])
