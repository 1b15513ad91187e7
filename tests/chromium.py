"""One way to start Chromium for tests."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
)


AXE = Path(__file__).resolve().parents[1] / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_MILLISECONDS = 120_000
"""How long an expectation and an action wait: a busy machine is no failure."""


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """A running Chromium, with these flags too. Without Chromium, the test is skipped.

    Use it in fixtures of a module: Playwright's event loop runs on this thread, and other tests have their own loops.
    """
    # The headless shell takes half the processor time.
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        expect.set_options(timeout=PATIENCE_MILLISECONDS)
        yield browser
        browser.close()


def accessibility_findings(page: Page) -> list[str]:
    """What axe finds on a page: impact, rule and element of each finding."""
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(_axe())
    found: Any = page.evaluate("axe.run({resultTypes: ['violations']})")
    violations = found["violations"]
    return [f"{one['impact']} {one['id']}: {node['html'][:200]}" for one in violations for node in one["nodes"]]


def serious_findings_light_or_dark(page: Page) -> list[str]:
    """The serious and critical findings of a page in both colour schemes."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        findings = accessibility_findings(page)
        found += [f"{scheme}: {each}" for each in findings if each.startswith(("serious", "critical"))]
    return found


@functools.cache
def _axe() -> str:
    return AXE.read_text()
