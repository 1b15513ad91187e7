"""The FastAPI app that all services share. A service adds its routes and dependency checks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp

from common import documentation
from common.metrics import CONTENT_TYPE, RequestMetrics
from common.origins import normalise_origin
from common.refusal import Refusal
from common.requests import RequestMiddleware
from common.settings import ServiceSettings

log = logging.getLogger(__name__)

API_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of responses that are not pages."""

MOST_BODY_BYTES = 256 * 1024
"""A longer body is refused with 413, because forms and JSON are read into memory. A profile takes about 10 KiB."""

Check = Callable[[], Awaitable[object]]
"""Raises an exception if the dependency is not available."""
_CHECK_TIMEOUT_SECONDS = 3.0


class Service(FastAPI):
    """A FastAPI app that gives each request an id, logs it, and sets the common headers, also on errors."""

    alva_settings: ServiceSettings
    alva_policy: str
    alva_metrics: RequestMetrics

    def build_middleware_stack(self) -> ASGIApp:
        """Put RequestMiddleware outermost, so that it also sees the responses to unexpected errors."""
        return RequestMiddleware(
            super().build_middleware_stack(), self.alva_settings, self.alva_policy, self.alva_metrics
        )


def create(
    settings: ServiceSettings,
    *,
    title: str,
    routers: Sequence[APIRouter],
    lifespan: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None,
    checks: Mapping[str, Check] | None = None,
    unavailable: Sequence[type[Exception]] = (),
    cors_origins: Sequence[str] = (),
    content_security_policy: str = API_POLICY,
    serve_openapi: bool = False,
) -> FastAPI:
    """Build the app of a service.

    - Routers are mounted under the path prefix. Declare their paths as `/...`; `/admin` is answered as `/admin/`.
    - `/health` has no prefix and returns 200 while the process serves. `/health?deep=1` runs the `checks` and returns
      503 if one fails. It and `/metrics` answer requests from inside the network only.
    - Exceptions in `unavailable` become 503.
    - `serve_openapi` adds `/openapi.json` and `/docs` under the prefix.
    - Pages of `cors_origins` may send requests with credentials.
    - `app.state.stopping` is an asyncio.Event that is set at SIGTERM. Long responses must end then.
    - Services that need the signed-in user set `app.state.verifier`.
    """
    prefix = settings.path_prefix
    origins = [origin for origin in map(normalise_origin, cors_origins) if origin]
    app = Service(
        title=title,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{prefix}/openapi.json" if serve_openapi else None,
        redirect_slashes=False,
        max_body_size=MOST_BODY_BYTES,
        exception_handlers={Exception: _answer_unexpected_error, Refusal: _answer_refusal},
    )
    app.alva_settings = settings
    app.alva_policy = content_security_policy
    app.alva_metrics = RequestMetrics()
    app.state.settings = settings
    app.state.allowed_origins = frozenset(origins)
    app.state.stopping = asyncio.Event()
    for exception in unavailable:
        app.add_exception_handler(exception, _answer_unavailable)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_credentials=True,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
        )
    _add_health(app, settings, checks or {})
    _add_metrics(app)
    for router in routers:
        app.include_router(router, prefix=prefix)
    if serve_openapi:
        documentation.add_page(app, f"{prefix}/docs")
    return app


def _add_health(app: FastAPI, settings: ServiceSettings, checks: Mapping[str, Check]) -> None:
    @app.get("/health", include_in_schema=False)
    async def health(request: Request, deep: bool = False) -> JSONResponse:
        body: dict[str, Any] = {"status": "ok", "service": settings.service}
        if not deep or not request.state.caller.is_inside:
            return JSONResponse(body)
        results = await asyncio.gather(*(_run_check(name, check) for name, check in checks.items()))
        body["checks"] = dict(zip(checks, results, strict=True))
        body["digest"] = settings.image_digest
        is_healthy = all(result == "ok" for result in results)
        body["status"] = "ok" if is_healthy else "failing"
        return JSONResponse(body, status_code=200 if is_healthy else 503)


def _add_metrics(app: Service) -> None:
    @app.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> PlainTextResponse:
        if not request.state.caller.is_inside:
            raise HTTPException(404, "Not Found")
        return PlainTextResponse(app.alva_metrics.render(), media_type=CONTENT_TYPE)


async def _run_check(name: str, check: Check) -> str:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_SECONDS):
            await check()
    except Exception as error:
        log.warning("health check of %s failed", name, exc_info=True)
        return f"{type(error).__name__}: {error}"
    return "ok"


async def _answer_unexpected_error(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - Starlette's signature
    return JSONResponse({"detail": "Something went wrong on our side."}, status_code=500)


async def _answer_refusal(request: Request, refusal: Exception) -> JSONResponse:  # noqa: ARG001 - Starlette's signature
    assert isinstance(refusal, Refusal)  # noqa: S101 - it is registered for this class
    seconds = refusal.retry_after_seconds
    headers = {"Retry-After": str(seconds)} if seconds is not None else None
    return JSONResponse({"detail": refusal.sentence}, status_code=refusal.status_code, headers=headers)


async def _answer_unavailable(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - Starlette's signature
    log.error("a dependency is not available: %s: %s", type(error).__name__, error)
    return JSONResponse(
        {"detail": "This is not available at the moment. Please try again."},
        status_code=503,
        headers={"Retry-After": "2"},
    )
