"""Web without backends, served as in a task."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from tests.ports import free_port
from tests.waiting import until
from web.app import WebSettings, create_app


@contextmanager
def serving(app: FastAPI, port: int) -> Iterator[None]:
    """Serve the app on a loopback port with the server of the tasks."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, proxy_headers=False, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()

    def has_started() -> bool:
        assert thread.is_alive(), "the server ended before it served"
        return server.started

    until(has_started, "the server to start")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def _web_behind(api_url: str, auth_url: str) -> Iterator[httpx.Client]:
    port = free_port()
    settings = WebSettings(
        port=port, image_digest="sha256:" + "ab" * 32, api_internal_url=api_url, auth_internal_url=auth_url
    )
    with (
        serving(create_app(settings), port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def closed_url() -> str:
    """A URL without a server."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="session")
def lonely_web(closed_url: str) -> Iterator[httpx.Client]:
    """A browser that follows no redirects, at a web whose api and auth are down."""
    with _web_behind(closed_url, closed_url) as client:
        yield client


@pytest.fixture
def web_without_api(closed_url: str, auth: Any) -> Iterator[httpx.Client]:
    """The same, where auth runs and the api is down."""
    with _web_behind(closed_url, auth.url) as client:
        yield client
