"""The app of admin."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from fastapi import FastAPI

from admin import audit, overview, users, work
from common.site import app as site
from common.site.backends import Backend
from common.site.settings import InternalUrl, SiteSettings


class AdminSettings(SiteSettings):
    """Admin's settings."""

    service: ClassVar[str] = "admin"

    web_internal_url: InternalUrl
    """Where this task reaches web, to read the digest of its image."""


def create_app(settings: AdminSettings) -> FastAPI:
    """Build the app."""
    web = Backend("web", settings.web_internal_url)
    app = site.create(
        settings,
        title="Alva's back office",
        folder=Path(__file__).parent,
        routers=[overview.router, users.router, work.router, audit.router],
        others=[web],
    )
    app.state.web = web
    return app
