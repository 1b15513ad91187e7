"""ASGI applications, and the service and action of a request to AWS's APIs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

ASGIApplication = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]


# Actions with these prefixes change nothing that is saved.
READ_ONLY = ("Describe", "Get", "List", "BatchGet", "Filter", "Lookup", "Validate", "Estimate", "Discover", "Detect")


async def answer_json(send: Callable[[Any], Awaitable[None]], contents: object, status: int = 200) -> None:
    """Answer a request with JSON."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(contents).encode()})


def is_for_registry(scope: dict[str, Any]) -> bool:
    """Whether a request is for ECR's registry: its path begins with /v2, and it has no signature of AWS's API."""
    if scope["path"] != "/v2" and not scope["path"].startswith("/v2/"):
        return False
    return not any(
        name == b"x-amz-date" or (name == b"authorization" and value.startswith(b"AWS4"))
        for name, value in scope["headers"]
    )


def requested_action(scope: dict[str, Any], body: bytes) -> tuple[str, str]:
    """The service and the action that a request names. S3's actions are the HTTP methods (`Get`, `Put`)."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", ())}
    credential = headers.get("authorization", "").partition("Credential=")[2].split("/")
    service = credential[3] if len(credential) > 3 else ""
    if target := headers.get("x-amz-target"):
        return service, target.rpartition(".")[2]
    if "/operation/" in scope.get("path", ""):
        return service, scope["path"].rpartition("/")[2]
    for part in (body + b"&" + scope.get("query_string", b"")).split(b"&"):
        if part.startswith(b"Action="):
            return service, part[7:].decode("latin-1")
    return service, scope.get("method", "").capitalize().replace("Head", "Get")
