"""Runs a service's app: `python -m api` is `serve.run(ApiSettings, create_app)`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from common import startup
from common.process import load_or_exit
from common.settings import Settings

KEEP_ALIVE_SECONDS = 75
"""Longer than the load balancer's idle timeout of 60 s. If the service closed a connection first, users would see an
occasional 502.
"""
GRACEFUL_SHUTDOWN_SECONDS = 20
"""Less than the stopTimeout of 30 s, after which ECS sends SIGKILL."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_stop()
        super().handle_exit(sig, frame)


def run(settings_class: type[Settings], create_app: Callable[[Settings], FastAPI]) -> None:
    """Serve until SIGTERM, finish the running requests and exit with 0. Exit with 78 if a setting is invalid."""
    settings = load_or_exit(settings_class)
    with startup.without_garbage_collection():
        app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        lifespan="on",
    )
    # Uvicorn raises the signal again after its shutdown. The process must still exit with 0.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    server = _Server(config, app.state.stopping.set)
    server.run()
    if not server.started:
        sys.exit(1)
