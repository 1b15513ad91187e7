"""The app of a service with pages: `common.app` with backends, pages, error pages and checked forms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, Request

from common import app as common_app
from common.access import require_same_origin
from common.origins import SAFE_METHODS
from common.pages import PAGE_POLICY, Pages
from common.site import problems
from common.site.backends import Backend, Unavailable
from common.site.settings import SiteSettings
from common.tokens import ACCESS_COOKIE, JwksVerifier


def create(
    settings: SiteSettings,
    *,
    title: str,
    folder: Path,
    routers: Sequence[APIRouter],
    others: Sequence[Backend] = (),
) -> FastAPI:
    """Build the app of a service with pages, whose `templates/` and `static/` are in `folder`.

    `others` are further services that the pages call; they are closed with the app. Sets `app.state.pages`
    (common.pages.Pages), `app.state.api` and `app.state.auth` (Backend), and while the app runs `app.state.verifier`,
    for the dependencies of common.access. A 401 from these dependencies redirects the browser to the sign-in page.
    """
    pages = Pages(
        folder,
        prefix=settings.path_prefix,
        has_sign_in=_has_sign_in,
        # The browser sends this form to auth, because only auth's paths get the refresh cookie that is revoked.
        sign_out_url=f"{settings.next_public_auth_url}/logout?next=/",
        sign_out_everywhere_url=f"{settings.next_public_auth_url}/logout-all?next=/",
    )
    pages.environment.filters |= {"day": show_day, "moment": show_moment}
    api = Backend("api", settings.api_internal_url)
    auth = Backend("auth", settings.auth_internal_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.verifier = JwksVerifier("/auth/.well-known/jwks.json", auth.client)
        yield
        for backend in (api, auth, *others):
            await backend.close()

    guarded = APIRouter(dependencies=[Depends(require_own_form)])
    for router in routers:
        guarded.include_router(router)
    app = common_app.create(
        settings,
        title=title,
        routers=[guarded],
        lifespan=lifespan,
        checks={"api": lambda: _check(api), "auth": lambda: _check(auth)},
        content_security_policy=page_policy(settings.public_origins, settings.form_origins),
    )
    app.state.pages = pages
    app.state.api = api
    app.state.auth = auth
    pages.mount_static(app)
    problems.install(app, pages, settings.next_public_auth_url)
    return app


async def require_own_form(request: Request) -> None:
    """Refuse with 403 a form from another site, also the sign-in form."""
    if request.method not in SAFE_METHODS:
        require_same_origin(request)


def page_policy(public_origins: Sequence[str], form_origins: Sequence[str]) -> str:
    """Return the Content-Security-Policy of pages, with the other origins that they may call and send forms to."""
    policy = PAGE_POLICY
    for directive, origins in (("connect-src", public_origins), ("form-action", form_origins)):
        policy = policy.replace(f"{directive} 'self'", " ".join([directive, "'self'", *origins]))
    return policy


def show_day(value: str) -> str:
    """Format `2026-11-23T14:02:00Z` as `23 November 2026`."""
    at = datetime.fromisoformat(value)
    return f"{at.day} {at:%B %Y}"


def show_moment(value: str) -> str:
    """Format `2026-11-23T14:02:05Z` as `23 Nov 2026, 14:02 UTC`."""
    at = datetime.fromisoformat(value)
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def _has_sign_in(request: Request) -> bool:
    """Return whether the navigation shows the links for signed-in users. This is no check; common.access has the
    checks.
    """
    return bool(request.cookies.get(ACCESS_COOKIE))


async def _check(backend: Backend) -> None:
    response = await backend.client.get("/health")
    if not response.is_success:
        raise Unavailable(backend.name, f"/health answered {response.status_code}")
