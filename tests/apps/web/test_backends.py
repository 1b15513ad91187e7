"""Failing calls between services: broken connections, error responses, slow services."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from common.site.backends import Backend, Refused, Unavailable


@contextmanager
def answering(*answers: tuple[int, str] | None) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """A server that gives these responses in turn (None: closes the connection), and its requests."""
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, dict(self.headers)))
            answer = left.pop(0)
            if answer is None:
                self.close_connection = True
                return
            status, body = answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.send_header("Set-Cookie", "alva_refresh=of-somebody; Path=/")
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_PUT = do_PATCH = _answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def call(url: str, *methods: str, token: str = "", **options: Any) -> list[httpx.Response]:
    """Call with each method in turn, on behalf of a visitor with this token."""

    async def run() -> list[httpx.Response]:
        backend = Backend("api", url)
        cookie = [(b"cookie", f"alva_access={token}".encode())] if token else []
        scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http", "headers": cookie, "query_string": b""}
        try:
            return [await backend.call(Request(scope), method, "/api/plans", **options) for method in methods]
        finally:
            await backend.close()

    return asyncio.run(run())


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_call_on_a_broken_connection_is_retried_if_that_is_safe(method: str) -> None:
    # As during a release: the server closes an idle connection when it stops.
    with answering(None, (200, "{}")) as (url, asked):
        assert call(url, method)[0].status_code == 200
    assert [name for name, _ in asked] == [method, method]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_call_that_may_have_been_received_is_not_repeated(method: str) -> None:
    with answering(None, (200, "{}")) as (url, asked), pytest.raises(Unavailable):
        call(url, method)
    assert len(asked) == 1


def test_order_with_a_key_is_repeated_with_the_same_key() -> None:
    with answering(None, (202, "{}")) as (url, asked):
        assert call(url, "POST", idempotency_key="one-order")[0].status_code == 202
    assert [headers["Idempotency-Key"] for _, headers in asked] == ["one-order", "one-order"]


def test_connection_that_keeps_breaking_is_an_error() -> None:
    with answering(None, None, None) as (url, asked), pytest.raises(Unavailable, match="cannot reach api: GET"):
        call(url, "GET")
    assert len(asked) == 2


def test_error_of_the_service_is_not_a_refusal() -> None:
    with answering((500, "{}")) as (url, _), pytest.raises(Unavailable, match="answered 500"):
        call(url, "GET")


def test_refusal_keeps_its_message_and_its_fields() -> None:
    detail = '{"detail": [{"loc": ["body", "email"], "msg": "Value error, This is not an e-mail address."}]}'
    with answering((409, '{"detail": "This plan is finished already."}'), (422, detail)) as (url, _):
        with pytest.raises(Refused) as caught:
            call(url, "POST")
        assert (caught.value.status, caught.value.reason) == (409, "This plan is finished already.")
        with pytest.raises(Refused) as caught:
            call(url, "POST")
        assert caught.value.fields == {"email": "This is not an e-mail address."}


@pytest.mark.parametrize("body", ["", "<html>", "[]", "null", '{"detail": null}', '{"detail": [1, {}]}'])
def test_refusal_of_any_shape_is_read(body: str) -> None:
    with answering((400, body)) as (url, _), pytest.raises(Refused) as caught:
        call(url, "GET")
    assert (caught.value.reason, caught.value.fields) == ("", {})


def test_cookies_that_a_service_sets_are_not_sent_to_it_again() -> None:
    with answering((200, "{}"), (200, "{}")) as (url, asked):
        first, _ = call(url, "GET", "GET", token="mine")
    assert first.headers["set-cookie"], "the caller may pass them to the browser"
    assert [headers.get("Cookie") for _, headers in asked] == [None, None]
    assert [headers["Authorization"] for _, headers in asked] == ["Bearer mine", "Bearer mine"]
