"""Auth's app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from redis.asyncio import Redis

from auth import retention
from auth.credentials import AccessTokens, MailLinks, SignedCookies
from auth.endpoints import router
from auth.limits import Limits, RateLimiter
from auth.mail import Mailer
from auth.service import AuthService
from auth.settings import AuthSettings
from common import app, cache, database
from common.database import Database
from common.origins import normalise_origin
from common.tokens import PublicKeyVerifier


def create_app(settings: AuthSettings, *, limits: Limits | None = None) -> FastAPI:
    """Build the app from the settings. Connections are opened at first use."""
    store = Database(settings.database_url, application_name="alva-auth")
    password = settings.redis_password
    redis = cache.connect(settings.redis_url, password.get_secret_value() if password else None)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        deleting = asyncio.create_task(retention.run(store, retention.Retention()))
        yield
        deleting.cancel()
        with suppress(asyncio.CancelledError):
            await deleting
        await store.close()
        await redis.aclose()

    service = app.create(
        settings,
        title="Alva auth",
        routers=[router],
        lifespan=lifespan,
        checks={"database": store.check, "cache": redis.ping},
        unavailable=(*database.UNAVAILABLE, *cache.UNAVAILABLE),
        cors_origins=settings.cors_origins,
        serve_openapi=True,
    )
    access_tokens = AccessTokens(settings.jwt_private_key.get_secret_value())
    service.state.verifier = PublicKeyVerifier(settings.jwt_public_key)
    service.state.jwk = access_tokens.jwk
    service.state.mailer = Mailer(settings.resend_api_key.get_secret_value(), settings.mail_from)
    service.state.service = build_service(settings, store, redis, access_tokens, limits)
    return service


def build_service(
    settings: AuthSettings, store: Database, redis: Redis, access_tokens: AccessTokens, limits: Limits | None = None
) -> AuthService:
    """Build the service without the HTTP app, for one-off tasks."""
    return AuthService(
        store,
        RateLimiter(redis),
        access_tokens=access_tokens,
        mail_links=MailLinks(settings.jwt_secret.get_secret_value()),
        cookies=SignedCookies(settings.cookie_secret.get_secret_value()),
        link_base=f"{settings.public_url}{settings.path_prefix}/verify",
        site_url=settings.site_url or settings.public_url,
        origins=frozenset(origin for origin in map(normalise_origin, settings.cors_origins) if origin),
        limits=limits,
    )
