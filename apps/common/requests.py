"""Middleware for every request: request id, client address, log line and security headers."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.logs import RequestContext, current_request
from common.metrics import RequestMetrics
from common.proxies import Caller, find_caller
from common.settings import ServiceSettings

log = logging.getLogger("request")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_TRACE_ID = re.compile(r"[A-Za-z0-9=;:._-]{1,256}")


class RequestMiddleware:
    """The outermost ASGI middleware. Sets `request.state.caller` (common.proxies.Caller) and the scope's scheme and
    client.
    """

    def __init__(
        self, app: ASGIApp, settings: ServiceSettings, content_security_policy: str, metrics: RequestMetrics
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._settings = settings
        self._policy = content_security_policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        peer = scope["client"][0] if scope.get("client") else ""
        caller = find_caller(peer, scope["scheme"], headers, self._settings.vpc_cidr)
        context = _identify(headers, caller)
        scope["scheme"] = caller.scheme
        scope["client"] = (caller.client, 0)
        scope.setdefault("state", {})["caller"] = caller
        original_path = scope["path"]
        if self._settings.path_prefix and original_path == self._settings.path_prefix:
            scope["path"] = scope["path"] + "/"

        status = 0
        started = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(MutableHeaders(scope=message), context, caller)
            await send(message)

        reset = current_request.set(context)
        self._metrics.in_flight += 1
        try:
            try:
                await self._app(scope, receive, send_with_headers)
            except Exception:
                # Starlette answers an unexpected error and raises it again. It is logged here.
                log.exception("unexpected error")
                if status == 0:
                    await PlainTextResponse("Something went wrong.", status_code=500)(scope, receive, send_with_headers)
            seconds = time.perf_counter() - started
            self._write_log(scope, original_path, status, seconds, caller)
            self._metrics.count(scope["method"], _route(scope, self._settings.path_prefix), status, seconds)
        finally:
            self._metrics.in_flight -= 1
            current_request.reset(reset)

    def _add_headers(self, headers: MutableHeaders, context: RequestContext, caller: Caller) -> None:
        headers["X-Request-Id"] = context.request_id
        headers["X-Alva-Service"] = self._settings.service
        headers["X-Alva-Digest"] = self._settings.image_digest or "none"
        headers.setdefault("Content-Security-Policy", self._policy)
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("X-Frame-Options", "DENY")
        headers.setdefault("Referrer-Policy", "strict-origin-when-cross-origin")
        headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
        if caller.scheme == "https":
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            # Browsers ignore this header over plain HTTP and print a warning in their console.
            headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")

    def _write_log(self, scope: Scope, path: str, status: int, seconds: float, caller: Caller) -> None:
        is_health_check = path == "/health" and status == 200
        fields: dict[str, Any] = {
            "method": scope["method"],
            "path": path,  # Without the query, which can contain a token.
            "status": status,
            "duration_ms": round(seconds * 1000, 1),
            "client": caller.client,
        }
        level = logging.DEBUG if is_health_check else logging.INFO
        log.log(level, "%s %s %s", scope["method"], path, status, extra=fields)


def _route(scope: Scope, prefix: str) -> str:
    """Return the template of the route. The path itself would make the number of metrics unbounded."""
    path: str = getattr(scope.get("route"), "path", "")
    if not path:
        return "unmatched"
    # The path of a FastAPI route in an included router lacks the router's prefix.
    is_below_prefix = scope["path"].startswith(f"{prefix}/") and not path.startswith(f"{prefix}/")
    return prefix + path if is_below_prefix else path


def _identify(headers: Headers, caller: Caller) -> RequestContext:
    request_id = headers.get("x-request-id", "")
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = uuid.uuid4().hex
    trace_id = headers.get("x-amzn-trace-id", "")
    return RequestContext(
        request_id=request_id,
        trace_id=trace_id if _TRACE_ID.fullmatch(trace_id) else "",
        client=caller.client,
    )
