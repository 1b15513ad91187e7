"""Chromium with the whole site: the services as processes, and Envoy as their load balancer."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.apps import envoy
from tests.chromium import PATIENCE_MILLISECONDS
from tests.chromium import chromium as launched

SITE = "http://alva.test"
"""PUBLIC_URL of the services under test. Chromium resolves this name to Envoy's port."""
DESKTOP = {"width": 1280, "height": 850}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def edge_port(web: Any, admin: Any, auth: Any, api: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port where Envoy serves the whole site."""
    targets = {"": web.url, "/admin": admin.url, "/auth": auth.url, "/api": api.url}
    with envoy.serving(envoy.route_site({"*": targets}), tmp_path_factory.mktemp("envoy")) as port:
        yield port


def chromium_at(names: str, port: int) -> AbstractContextManager[Browser]:
    """A running Chromium that resolves the site's names to Envoy."""
    return launched(f"--host-resolver-rules=MAP {names} 127.0.0.1:{port}")


@pytest.fixture(scope="module")
def chromium(edge_port: int) -> Iterator[Browser]:
    """A running Chromium in front of the site on one host."""
    with chromium_at("alva.test", edge_port) as browser:
        yield browser


@contextmanager
def opening_tabs(chromium: Browser, site: str) -> Iterator[Callable[..., Page]]:
    """Opens tabs in separate browser contexts. A message in their consoles fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_one(*, is_phone: bool = False, person: Any = None, **options: Any) -> Page:
        viewport = PHONE if is_phone else DESKTOP
        context = chromium.new_context(base_url=site, viewport=viewport, is_mobile=is_phone, **options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        if person is not None:
            context.add_cookies([{"name": "alva_access", "value": person.access_token, "url": site}])
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_one
    for context in contexts:
        context.close()
    # Chromium reports the status of an intended error page.
    unexpected = [text for text in complaints if not re.search(r"status of 4\d\d", text)]
    assert not unexpected, unexpected


@pytest.fixture
def open_tab(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens tabs at the site on one host."""
    with opening_tabs(chromium, SITE) as open_one:
        yield open_one


@pytest.fixture
def take_picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Saves a screenshot in the folder ALVA_SCREENSHOTS, if the variable is set."""
    folder = os.environ.get("ALVA_SCREENSHOTS")

    def take(page: Page, name: str) -> None:
        if folder:
            page.screenshot(path=Path(folder) / f"{request.node.name}-{name}.png", full_page=True)

    return take
