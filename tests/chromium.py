"""One way to start Chromium for tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

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
