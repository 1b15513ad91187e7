"""The console in a real browser: picture, successful release, failing release, logs, metrics, causes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.chromium import PATIENCE_MILLISECONDS, chromium, serious_findings_light_or_dark

from .environment import Rehearsal

pytestmark = pytest.mark.browser

VIEWS = ("overview", "releases", "logs", "metrics", "why", "cost")
RELEASE_SECONDS = 120


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(rehearsal: Rehearsal) -> Iterator[str]:
    """The address that a running `./alva open` prints. SIGINT stops the command at the end."""
    process = subprocess.Popen(
        rehearsal.command("open", "--no-browser", "--json"),
        env=rehearsal.environment,
        cwd=rehearsal.project,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield str(json.loads(process.stdout.readline())["address"])
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)
        process.stdout.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page. Fails at the end after an error in the browser's console or a request to another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 960})
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(address.split("?")[0]) else problems.append(r.url))
    page.goto(address)
    # The page is served before AWS answers.
    expect(page.locator("#services tbody tr").first).to_be_visible()
    expect(page.locator(".part .task")).not_to_have_count(0)
    yield page
    context.close()
    assert not problems


def screenshot(page: Page, name: str) -> None:
    """Save a screenshot in the folder ALVA_SCREENSHOTS, if set, for the README (docs/reference/console.md)."""
    if folder := os.environ.get("ALVA_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"console-{name}.png")


def show(page: Page, view: str) -> None:
    page.evaluate(f"location.hash = '#{view}'")
    expect(page.locator(f"#view-{view}")).to_be_visible()


def test_picture_shows_each_service_with_its_tasks_and_shows_details_by_keyboard(
    page: Page, rehearsal: Rehearsal
) -> None:
    for name in rehearsal.tasks():
        part = page.locator(f'.part[data-part="{name}"]')
        expect(part.locator(".task.new")).to_have_count(1)
    page.locator('.part[data-part="api"]').focus()
    page.keyboard.press("Enter")
    details = page.locator("#details")
    expect(details).to_contain_text("DATABASE_URL")
    expect(details).to_contain_text("Secrets of api (names only)")
    expect(details).to_contain_text("database on 5432")
    assert "postgresql://" not in page.content()


@pytest.mark.nightly  # tests/console/test_states.py does the same with recorded states.
def test_no_view_has_a_serious_accessibility_finding_light_or_dark(page: Page) -> None:
    for view in VIEWS:
        show(page, view)
        page.wait_for_load_state()
        assert serious_findings_light_or_dark(page) == [], view


def test_nothing_is_wider_than_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for view in VIEWS:
        show(page, view)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, view


def test_successful_release_shows_its_steps_and_is_then_in_the_timeline(page: Page, rehearsal: Rehearsal) -> None:
    with rehearsal.edited("apps/web/__main__.py", "\n# another build\n", append=True):
        release = subprocess.Popen(
            rehearsal.command("deploy", "--yes"), env=rehearsal.environment, cwd=rehearsal.project
        )
        try:
            progress = page.locator("#progress")
            expect(progress).to_contain_text("A release is running")
            expect(progress).to_contain_text("-services")
            expect(page.locator('.part[data-part="web"] .task')).to_have_count(2)
            expect(page.locator("#release-log")).to_contain_text("Uvicorn running")
            screenshot(page, "release")
            assert release.wait(RELEASE_SECONDS) == 0
        finally:
            release.kill()
            release.wait()
    expect(page.locator("#condition")).to_contain_text("succeeded")
    show(page, "releases")
    newest = page.locator("#timeline li").first
    expect(newest).to_contain_text("succeeded")
    expect(newest).to_contain_text("Changed: web")
    boxes = page.locator("#timeline input")
    if boxes.count() > 1:
        boxes.nth(0).check()
        boxes.nth(1).check()
        expect(page.locator("#comparison")).to_contain_text("image web")
    assert rehearsal.alva("deploy", "--yes").returncode == 0, "the services run the checkout's sources again"


def test_failing_release_shows_its_cause_and_the_next_step(page: Page, rehearsal: Rehearsal) -> None:
    crash = "\nimport sys\n\nprint('cannot start: no configuration <b>at all</b>', flush=True)\nsys.exit(3)\n"
    with rehearsal.replaced(
        "apps/web/__main__.py", "from common import startup\n", f"{crash}from common import startup\n"
    ):
        release = rehearsal.alva("deploy", "--yes")
    assert release.returncode == 5, release.stderr[-2000:]
    condition = page.locator("#condition")
    expect(condition).to_contain_text("rolled back; all services run the former version again")
    expect(page.locator("#last-causes")).to_contain_text("exit code 3")
    screenshot(page, "failed-release")
    condition.get_by_role("link", name="show it here").last.click()
    causes = page.locator("#causes")
    expect(causes).to_contain_text("Release")
    expect(causes).to_contain_text("cannot start: no configuration <b>at all</b>")
    expect(causes.locator("b")).to_have_count(0)
    show(page, "overview")
    expect(page.locator('.part[data-part="web"] .task.new')).to_have_count(1)


def test_logs_are_filtered_and_followed(page: Page, rehearsal: Rehearsal) -> None:
    rehearsal.get("/a-request-before")
    show(page, "logs")
    lines = page.locator("#log-lines")
    expect(lines).to_contain_text("GET /a-request-before 404")
    page.get_by_label("Find in lines").fill("a-path-of-this-test")
    expect(lines).not_to_contain_text("/a-request-before")
    rehearsal.get("/a-path-of-this-test")
    expect(lines).to_contain_text("GET /a-path-of-this-test 404")


def test_metrics_have_thresholds(page: Page) -> None:
    show(page, "metrics")
    expect(page.locator(".chart canvas").first).to_be_visible()
    expect(page.locator("#charts")).to_contain_text("Alarm latency: above")
    # The worker logs the value, and a metric filter publishes it.
    depth = page.locator(".chart").filter(has_text="Queue depth").locator("tbody td").first
    expect(depth).to_have_text("0")
    screenshot(page, "metrics")


@pytest.mark.nightly
def test_cost_has_a_sum_and_savings(page: Page) -> None:
    show(page, "cost")
    expect(page.locator("#bill")).to_contain_text("a month")
    expect(page.locator("#savings tbody tr").first).to_be_visible()


@pytest.mark.nightly
def test_change_is_drawn_and_printed_as_text(rehearsal: Rehearsal, tmp_path: Path) -> None:
    services = "infrastructure/lib/config/services.py"
    text = (rehearsal.project / services).read_text()
    first = next(line for line in text.splitlines() if '"NEXT_PUBLIC_API_URL"' in line)
    with rehearsal.replaced(services, f"{first}\n", f'{first}\n            "A_NEW_VARIABLE": "1",\n'):
        drawn = rehearsal.alva("draw", "--changes", "--output", str(tmp_path / "changes.svg"))
    assert drawn.returncode == 0, drawn.stderr
    assert "+ web: web has the variable A_NEW_VARIABLE" in drawn.stdout
    assert 'class="part service changed" data-part="web"' in (tmp_path / "changes.svg").read_text()
