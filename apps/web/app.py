"""The app of web."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from fastapi import FastAPI

from common.site import app as site
from common.site.settings import SiteSettings
from web import account, onboarding, plans


class WebSettings(SiteSettings):
    """Web's settings: those of every service with pages."""

    service: ClassVar[str] = "web"


def create_app(settings: WebSettings) -> FastAPI:
    """Build the app."""
    return site.create(
        settings,
        title="Alva",
        folder=Path(__file__).parent,
        routers=[account.router, onboarding.router, plans.router],
    )
