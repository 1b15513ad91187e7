"""A browser shows 40 services and 100,000 log lines, and the page keeps few elements."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.chromium import PATIENCE_MILLISECONDS, chromium

from .conftest import Synthesised
from .large_environment import LOG_LINES, SERVICES, LargeEnvironment, console_of

pytestmark = pytest.mark.browser

MOST_ELEMENTS = 5_000
"""Most of them are arrows between the 40 services. The visible log lines are some hundred."""


@pytest.fixture(scope="module")
def page(forty: Synthesised) -> Iterator[Page]:
    manifest, values, templates = forty
    with console_of(LargeEnvironment(manifest, templates), manifest, values) as console, chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        page.goto(console.address)
        yield page


def elements(page: Page) -> int:
    return int(page.evaluate("document.querySelectorAll('*').length"))


def test_forty_services_are_drawn_and_listed(page: Page) -> None:
    page.evaluate("location.hash = '#overview'")
    expect(page.locator("#services tbody tr")).to_have_count(SERVICES)
    expect(page.locator(".part.service .task.new")).to_have_count(SERVICES)
    page.locator('.part[data-part="more-7"]').focus()
    page.keyboard.press("Enter")
    expect(page.locator("#details h2")).to_have_text("more-7")
    assert elements(page) < MOST_ELEMENTS


@pytest.mark.nightly
def test_hundred_thousand_lines_are_read_and_only_visible_ones_are_elements(page: Page) -> None:
    page.evaluate("location.hash = '#logs'")
    expect(page.locator("#log-state")).to_contain_text(f"{LOG_LINES} of {LOG_LINES} lines")
    assert elements(page) < MOST_ELEMENTS
    first = page.locator(".log-line").first
    page.locator("#log-lines").evaluate("box => { box.scrollTop = 0; }")
    oldest = first.locator("time").inner_text()
    page.locator("#log-lines").evaluate("box => { box.scrollTop = box.scrollHeight / 2; }")
    expect(first.locator("time")).not_to_have_text(oldest)
    assert elements(page) < MOST_ELEMENTS
    page.get_by_label("Find in lines").fill("/more-7/items/12 ")
    expect(page.locator("#log-state")).to_contain_text(f"1 of {LOG_LINES} lines")
    expect(first).to_contain_text("GET /more-7/items/12 200")
