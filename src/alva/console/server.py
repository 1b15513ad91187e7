"""The console's web server: read-only, on loopback, protected by a token that the terminal prints.

A page of another origin can send requests to a loopback port, and a host name can be made to resolve to 127.0.0.1 (DNS
rebinding). The server therefore answers only requests whose `Host` is its own address, whose `Origin` is absent or its
own, and that have the token: first in the address that the terminal prints, then in a cookie.
"""

from __future__ import annotations

import json
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from types import FrameType
from typing import Any

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from alva.aws import Interrupted
from alva.console.session import Session
from alva.errors import AlvaError

log = logging.getLogger(__name__)

COOKIE = "alva_console"
STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FIRST_VIEW = b'<script type="application/json" id="first-view">null</script>'
"""The element of the page that holds what the server already knows, so that the first view needs no other request."""
HEARTBEAT_SECONDS = 10.0
LINES_PER_EVENT = 500
LONGEST_MINUTES = 7 * 24 * 60


class OnlyItsOwnPage:
    """Middleware that refuses requests from anything but the console's own page in a browser that has the token."""

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self._app = app
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 or 405, exchange the token for a cookie, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Request(scope))
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if host not in self._hosts:
            return _refuse(
                403, f"cannot answer for the host {host!r}: open the address that ./alva open printed in the terminal"
            )
        if request.headers.get("origin", f"http://{host}") != f"http://{host}":
            return _refuse(403, "cannot answer a request from a page of another origin")
        if request.method not in ("GET", "HEAD"):
            return _refuse(
                405, "cannot change anything: the console is read-only, and its pages show the commands to copy"
            )
        given = request.query_params.get("token")
        if given is not None and secrets.compare_digest(given.encode(), self._token.encode()):
            answer = RedirectResponse(request.url.path, status_code=303, headers=HEADERS)
            answer.set_cookie(self._cookie_name(host), self._token, httponly=True, samesite="strict")
            return answer
        cookies = SimpleCookie(request.headers.get("cookie", ""))
        cookie = cookies.get(self._cookie_name(host))
        if cookie is None or not secrets.compare_digest(cookie.value.encode(), self._token.encode()):
            return _refuse(
                403, "cannot answer without the token: open the address that ./alva open printed in the terminal"
            )
        return None

    @staticmethod
    def _cookie_name(host: str) -> str:
        """Return a name with the port: browsers send cookies to all ports of a host, and consoles differ in token."""
        return f"{COOKIE}_{host.rpartition(':')[2]}"


def _refuse(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status_code=status, headers=HEADERS)


def make_app(session: Session, port: int, token: str) -> ASGIApp:
    """Return the console of one environment as an ASGI app."""
    files = {name: file.read_bytes() for name, file in session.static_files.items() if file.is_file()}

    async def page(_: Request) -> Response:
        # `<` would end the element; JSON can write it as an escape.
        known = json.dumps(session.known(), default=_as_text).replace("<", "\\u003c")
        body = files["index.html"].replace(FIRST_VIEW, FIRST_VIEW.replace(b"null", known.encode()))
        return Response(body, media_type="text/html", headers=HEADERS)

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return _refuse(404, "cannot find this file")
        return Response(files[name], media_type=MEDIA_TYPES[Path(name).suffix], headers=HEADERS)

    async def picture(_: Request) -> Response:
        return await _json(session.picture)

    async def releases(_: Request) -> Response:
        return await _json(session.releases)

    async def cost(_: Request) -> Response:
        return await _json(session.cost)

    async def savings(_: Request) -> Response:
        return await _json(session.savings)

    async def causes(request: Request) -> Response:
        number = request.query_params.get("release", "")
        return await _json(lambda: session.causes(int(number) if number.isdecimal() else None))

    async def charts(request: Request) -> Response:
        minutes = _number(request, "minutes", 60, 1, 1440)
        return await _json(lambda: session.charts(minutes))

    async def events(_: Request) -> Response:
        return _stream(_environment_events(session))

    async def logs(request: Request) -> Response:
        minutes = _number(request, "minutes", 15, 1, LONGEST_MINUTES)
        names = [name for name in request.query_params.get("services", "").split(",") if name]
        pattern = request.query_params.get("filter", "")[:1024]
        is_following = request.query_params.get("follow") == "1"
        return _stream(_log_events(session, names, minutes, pattern, is_following=is_following))

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/static/{name}", static),
            Route("/api/picture", picture),
            Route("/api/events", events),
            Route("/api/releases", releases),
            Route("/api/causes", causes),
            Route("/api/logs", logs),
            Route("/api/charts", charts),
            Route("/api/cost", cost),
            Route("/api/savings", savings),
        ]
    )
    return OnlyItsOwnPage(app, port, token)


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name, "")
    return min(most, max(least, int(text))) if text.isdecimal() and len(text) < 10 else default


async def _json(read: Callable[[], Any]) -> Response:
    try:
        # A slow answer does not delay the end of the console.
        value = await anyio.to_thread.run_sync(read, abandon_on_cancel=True)
    except AlvaError as error:
        return JSONResponse({"error": error.as_json()}, status_code=502, headers=HEADERS)
    except Exception as error:
        log.exception("cannot answer")
        return JSONResponse({"error": {"message": f"cannot answer: {error}"}}, status_code=500, headers=HEADERS)
    return Response(json.dumps(value, default=_as_text), media_type="application/json", headers=HEADERS)


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _stream(events: Iterator[str]) -> Response:
    return StreamingResponse(events, media_type="text/event-stream", headers={**HEADERS, "X-Accel-Buffering": "no"})


def _event(name: str, value: object) -> str:
    return f"event: {name}\ndata: {json.dumps(value, default=_as_text)}\n\n"


def _environment_events(session: Session) -> Iterator[str]:
    """Yield the environment each time that it has changed, or the error that prevents reading it."""
    with session.watching() as watch:
        seen = -1
        while not watch.is_closed:
            version, name, value = watch.newer_than(seen, timeout_seconds=HEARTBEAT_SECONDS)
            yield _event(name, value) if version != seen else ": nothing new\n\n"
            seen = version


def _log_events(session: Session, names: list[str], minutes: int, pattern: str, *, is_following: bool) -> Iterator[str]:
    """Yield log lines in batches, oldest first, and `end` after the last one. When following there is no last one."""
    since = datetime.now(UTC) - timedelta(minutes=minutes)
    try:
        for batch in session.log_batches(names, since, pattern, LINES_PER_EVENT, is_following=is_following):
            yield _event("lines", batch) if batch else ": nothing new\n\n"
        yield _event("end", {})
    except AlvaError as error:
        yield _event("problem", error.as_json())
    except Interrupted:
        return  # the console stops


class _Server(uvicorn.Server):
    """Ends the event streams of open pages before it waits for their requests."""

    def __init__(self, config: uvicorn.Config, session: Session) -> None:
        super().__init__(config)
        self._session = session

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # This needs a thread: the signal can arrive while the main thread holds a lock that closing needs.
        threading.Thread(target=self._session.close, name="console-close").start()
        super().handle_exit(sig, frame)


def listen(port: int) -> socket.socket:
    """Return a socket that is bound on loopback. Port 0 takes a free port. Raises OSError."""
    # asyncio sets TCP_NODELAY for the connections only if the socket names its protocol.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


class Console:
    """The console's server."""

    def __init__(self, session: Session, port: int = 0) -> None:
        """Listen at once, so that the address is known. Port 0 takes a free port. Raises OSError."""
        self._socket = listen(port)
        self.port: int = self._socket.getsockname()[1]
        self.token = secrets.token_urlsafe(24)
        app = make_app(session, self.port, self.token)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1, server_header=False
        )
        # uvicorn logs an error for each request that is cut off when the console stops.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        self._server = _Server(config, session)
        self._session = session

    @property
    def address(self) -> str:
        """The address to open in a browser. It has the token, which the server exchanges for a cookie."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def stop(self) -> None:
        """Make `serve` return. Called from another thread."""
        self._session.close()
        self._server.should_exit = True

    def serve(self, when_ready: Callable[[], None]) -> None:
        """Serve until Ctrl-C or SIGTERM. Calls `when_ready` in a thread once the server accepts requests."""

        def wait() -> None:
            while not self._server.started and not self._server.should_exit:
                time.sleep(0.005)  # uvicorn has no callback for when it accepts requests
            when_ready()

        threading.Thread(target=wait, name="console-ready", daemon=True).start()
        self._session.prepare()
        try:
            with suppress(KeyboardInterrupt):  # uvicorn raises the signal again after it has stopped
                self._server.run(sockets=[self._socket])
        finally:
            self._session.close()
