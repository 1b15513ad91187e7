"""The api's app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api import admin_endpoints, endpoints
from api.queue import ChangeFeed, PlanQueue
from api.service import ApiService
from api.settings import ApiSettings
from common import app, cache, database
from common.database import Database
from common.tokens import PublicKeyVerifier


def create_app(settings: ApiSettings) -> FastAPI:
    """Build the app from the settings. Connections are opened at first use."""
    store = Database(settings.database_url, application_name="alva-api")
    redis = cache.connect(settings.redis_url, settings.redis_password_value)
    queue = PlanQueue(redis)
    feed = ChangeFeed(redis)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await feed.close()
        await store.close()
        await redis.aclose()

    service = app.create(
        settings,
        title="Alva api",
        routers=[endpoints.router, admin_endpoints.router],
        lifespan=lifespan,
        checks={"database": store.check, "cache": redis.ping, "worker": queue.require_worker},
        unavailable=(*database.UNAVAILABLE, *cache.UNAVAILABLE),
        cors_origins=settings.cors_origins,
        serve_openapi=True,
    )
    service.state.verifier = PublicKeyVerifier(settings.jwt_public_key)
    service.state.queue = queue
    service.state.feed = feed
    service.state.service = ApiService(store, queue)
    return service
