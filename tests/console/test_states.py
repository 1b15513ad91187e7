"""Each state of an environment in a browser: problems are at the top, as text, on a large screen and on a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.chromium import PATIENCE_MILLISECONDS, chromium, serious_findings_light_or_dark

from .states import STATES, served

pytestmark = pytest.mark.browser

PHONE_WIDTH = 390
VIEWS = ("overview", "releases", "logs", "metrics", "why", "cost")

Open = Callable[[str], Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens the page of a state. Fails at the end after an error on the page or a request to another host."""
    problems: list[str] = []
    with ExitStack() as stack:

        def open_page(name: str) -> Page:
            console = stack.enter_context(served(STATES[name]))
            page = stack.enter_context(browser.new_context(viewport={"width": 1280, "height": 900})).new_page()
            page.set_default_timeout(PATIENCE_MILLISECONDS)
            page.on("pageerror", lambda error: problems.append(str(error)))
            own = f"http://127.0.0.1:{console.port}/"
            page.on("request", lambda r: None if r.url.startswith(own) else problems.append(r.url))
            page.goto(console.address)
            expect(page.locator("#state")).not_to_have_text("reading the environment")
            return page

        yield open_page
    assert not problems


@pytest.mark.parametrize(
    ("state", "headline"),
    [
        ("empty", "Nothing is deployed yet"),
        ("good", "Everything runs: 4 services, 4 tasks, no alarm"),
        ("releasing", "Release of a1b2c3d4e5f6 in progress"),
        ("failing", "Release of a1b2c3d4e5f6 in progress, 1 problem"),
        ("rolled-back", "Release 8: rolled back; all services run the former version again"),
        ("asleep", "Asleep since"),
        ("alarms", "2 problems"),
        ("no-tasks", "Api: 0 of 1 task runs"),
        ("unhealthy", "Auth: 1 of 2 targets unhealthy: Health checks failed with these codes: [503]"),
        ("worker", "Everything runs: 5 services"),
        ("many", "Everything runs: 40 services"),
    ],
)
def test_first_heading_names_the_state_and_fits_a_phone(opened: Open, state: str, headline: str) -> None:
    page = opened(state)
    expect(page.locator("h1:visible")).to_contain_text(headline)
    page.set_viewport_size({"width": PHONE_WIDTH, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE_WIDTH


def test_missing_credentials_are_reported_once_and_no_empty_view_is_shown(opened: Open) -> None:
    page = opened("expired")
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(page.get_by_role("alert")).to_contain_text("the AWS credentials have expired")
    expect(page.get_by_role("alert")).to_contain_text("Next: sign in again")
    expect(page.locator("#main")).to_be_hidden()


def test_causes_of_a_failing_release_and_of_the_last_one_are_above_the_picture(opened: Open) -> None:
    for state, box in (("failing", "#progress"), ("rolled-back", "#last-causes")):
        page = opened(state)
        expect(page.locator(box)).to_contain_text("last log: cannot start: no configuration <b>at all</b>")
        expect(page.locator(f"{box} b")).to_have_count(0)
        # Texts are set before the page is shown, and a hidden element has no box.
        expect(page.locator(f"{box} .card.bad").first).to_be_visible()
        expect(page.locator("#picture")).to_be_visible()
        # In one step, because the page replaces its elements when new data arrive.
        above, picture = page.evaluate(
            "selectors => selectors.map(each => document.querySelector(each).getBoundingClientRect().y)",
            [f"{box} .card.bad", "#picture"],
        )
        assert above < picture


def test_part_with_an_alarm_and_service_without_tasks_are_red(opened: Open) -> None:
    page = opened("alarms")
    expect(page.locator('.part.bad[data-part="api"], .part.bad[data-part="database"]')).to_have_count(2)
    expect(page.locator(".finding").first).to_contain_text("alarm api-log-errors")
    page.locator(".finding a").first.click()
    expect(page.locator("#charts")).to_contain_text("Alarm api-log-errors: above 5, in the state ALARM")
    expect(opened("no-tasks").locator('.part.bad[data-part="api"]')).to_have_count(1)


def test_part_has_the_level_of_its_most_urgent_finding(opened: Open) -> None:
    page = opened("unhealthy")
    expect(page.locator('.part.warning[data-part="auth"]')).to_have_count(1)
    expect(page.locator(".part.service.good")).to_have_count(3)
    expect(page.locator("#services .warning-text")).to_have_text("2 of 2")


def test_running_release_shows_its_events_of_ecs(opened: Open) -> None:
    events = opened("releasing").get_by_role("list", name="Events of ECS")
    expect(events.get_by_role("listitem")).to_have_count(1)
    expect(events).to_contain_text("(service alva-web) has started 1 tasks: (task 0123456789abcdef).")


def test_task_that_drains_is_drawn_beside_the_one_that_replaces_it(opened: Open) -> None:
    page = opened("draining")
    for kind in ("new", "draining"):
        expect(page.locator(f'.part.good[data-part="web"] .task.{kind}')).to_have_count(1)


def test_environment_that_is_not_deployed_shows_the_command(opened: Open) -> None:
    page = opened("empty")
    expect(page.locator("#condition code")).to_have_text("./alva deploy")
    expect(page.locator("#picture")).to_have_text("The picture appears when every stack is deployed.")
    expect(page.locator("#view-overview .card.bad")).to_have_count(0)


def shown(page: Page, selector: str) -> int:
    """Count displayed elements. A straight line has no height, and Playwright counts it as invisible."""
    count = "all => all.filter(each => getComputedStyle(each).display !== 'none').length"
    return int(page.locator(selector).evaluate_all(count))


def test_allowed_connections_are_listed_for_every_part_of_few_and_of_forty_services(opened: Open) -> None:
    few = opened("worker").locator("#connections tbody tr")
    expect(few.filter(has=few.page.get_by_role("rowheader", name="worker"))).to_contain_text("web :3000, api :3001")
    # Nothing can reach a worker without a port.
    expect(few.filter(has=few.page.get_by_role("rowheader", name="worker")).locator("td").nth(1)).to_have_text(
        "nothing"
    )
    expect(few.page.locator(".arrow.between:visible")).to_have_count(
        10
    )  # six between four services, four of the worker
    many = opened("many")
    row = many.locator("#connections tbody tr").filter(has=many.get_by_role("rowheader", name="service-7", exact=True))
    expect(row).to_contain_text("all 39 other services, PostgreSQL :5432, Redis :6379")
    assert shown(many, ".arrow.single") == 0
    many.locator('.part[data-part="service-7"]').focus()
    many.keyboard.press("Enter")
    # One line to each other service, and those of the load balancer, the database and the cache.
    expect(many.locator("#details h2")).to_have_text("service-7")
    assert shown(many, ".arrow.single") == 39 + 3


def test_past_releases_are_compared_by_keyboard(opened: Open) -> None:
    page = opened("rolled-back")
    page.evaluate("location.hash = '#releases'")
    for number in (8, 7):
        page.get_by_label(f"Compare release {number}").focus()
        page.keyboard.press("Space")
    expect(page.locator("#comparison")).to_contain_text("Release 7 and release 8")
    expect(page.locator("#comparison tbody tr").filter(has_text="outcome")).to_contain_text("rolled back")


def test_log_lines_are_text_and_are_filtered_in_the_page_and_by_cloudwatch(opened: Open) -> None:
    page = opened("good")
    page.evaluate("location.hash = '#logs'")
    expect(page.locator("#log-state")).to_contain_text("400 of 400 lines, following")
    expect(page.locator("#log-lines b")).to_have_count(0)
    page.get_by_label("Find in lines").fill("/items/7 <b>")
    expect(page.locator("#log-state")).to_contain_text("1 of 400 lines")
    page.get_by_label("Find in lines").fill("")
    page.get_by_label("CloudWatch filter").fill("ERROR")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#log-state")).to_contain_text("80 of 80 lines")


def test_no_view_is_wider_than_a_phone(opened: Open) -> None:
    page = opened("rolled-back")
    page.set_viewport_size({"width": PHONE_WIDTH, "height": 844})
    page.evaluate("location.hash = '#releases'")
    expect(page.locator("#timeline .bars").first).to_be_visible()
    for view in VIEWS:
        page.evaluate(f"location.hash = '#{view}'")
        expect(page.locator(f"#view-{view}")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE_WIDTH, view


@pytest.mark.parametrize(
    "state",
    [
        "rolled-back",
        *(pytest.param(state, marks=pytest.mark.nightly) for state in ("failing", "alarms", "expired", "many")),
    ],
)
def test_no_state_has_a_serious_accessibility_finding_light_or_dark(opened: Open, state: str) -> None:
    page = opened(state)
    for view in VIEWS if state == "rolled-back" else ("overview",):
        page.evaluate(f"location.hash = '#{view}'")
        assert serious_findings_light_or_dark(page) == [], view
