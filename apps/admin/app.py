"""Puts admin together."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from fastapi import FastAPI

from admin import audit, overview, users, work
from kit.site import app as site
from kit.site.settings import SiteSettings


class AdminSettings(SiteSettings):
    """What admin is given: nothing beyond what every service with pages is."""

    service: ClassVar[str] = "admin"


def create_app(settings: AdminSettings) -> FastAPI:
    """Build the app."""
    return site.create(
        settings,
        title="Alva's back office",
        folder=Path(__file__).parent,
        routers=[overview.router, users.router, work.router, audit.router],
    )
