"""The whole product in a real browser, through the load balancer of the local region."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.chromium import PATIENCE_MILLISECONDS, chromium
from tests.waiting import until

from .environment import Rehearsal
from .test_flow import link_in, mails_to

pytestmark = [pytest.mark.browser, pytest.mark.nightly]


@pytest.fixture(scope="module")
def page(rehearsal: Rehearsal) -> Iterator[Page]:
    """A tab of Chromium at the environment."""
    with chromium() as browser:
        context = browser.new_context(base_url=rehearsal.url)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        yield context.new_page()


def _sign_in(page: Page, rehearsal: Rehearsal, address: str, path: str) -> None:
    """Request a link on the page at `path`, and open it."""
    before = len(mails_to(rehearsal, address))
    page.goto(path)
    page.get_by_label("E-mail address").fill(address)
    page.get_by_role("button", name="link").click()
    expect(page.get_by_role("heading", name="Check your mail")).to_be_visible()
    mails = until(lambda: (now := mails_to(rehearsal, address))[before:] and now, f"a new mail to {address}")
    page.goto(link_in(mails[0]["text"], rehearsal))


def test_customer_watches_the_progress_of_a_plan_and_starts_a_task(page: Page, rehearsal: Rehearsal) -> None:
    _sign_in(page, rehearsal, f"customer-{secrets.token_hex(4)}@example.com", "/signup")
    page.get_by_label("Name of the business").fill("Bread & Salt")
    page.get_by_label("What it does").fill("Bakery")
    page.get_by_label("Who your customers are").fill("Families in the neighbourhood")
    page.get_by_label("More new customers").check()
    page.get_by_role("button", name="Make my plan").click()
    page.wait_for_url("**/plans/*")
    expect(page.get_by_role("heading", name="Quick wins")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("Bread & Salt")

    page.get_by_role("link", name="Board", exact=True).click()
    page.get_by_role("button", name="Start").first.click()
    expect(page.get_by_role("region", name="Doing").get_by_role("heading", level=3)).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Get your plan")).to_be_visible()


def test_administrator_sees_which_digests_run(page: Page, rehearsal: Rehearsal) -> None:
    address = f"office-{secrets.token_hex(4)}@example.com"
    _sign_in(page, rehearsal, address, "/signup")
    expect(page.get_by_role("heading", name="About your business")).to_be_visible()
    promoted = rehearsal.alva("run", "auth", "--", "python", "-m", "auth.promote", address)
    assert promoted.returncode == 0, promoted.stderr
    page.context.clear_cookies()
    _sign_in(page, rehearsal, address, "/signin")
    page.goto("/admin")
    for service in ("web", "api", "auth", "admin"):
        expect(page.get_by_role("row", name=service).get_by_role("cell")).to_have_text(_digest(page, service))
    expect(page.get_by_role("region", name="The queue")).to_contain_text("1 worker")


def _digest(page: Page, service: str) -> str:
    """The digest in a service's response through the load balancer."""
    path = {"web": "/", "admin": "/admin/static/alva.css"}.get(service, f"/{service}/openapi.json")
    header = page.request.get(path).headers["x-alva-digest"]
    assert header.startswith("sha256:")
    return header
