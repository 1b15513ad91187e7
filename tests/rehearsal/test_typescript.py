"""The TypeScript workspace (`examples/typescript/README.md`) replaces the Python services, which are then restored."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.chromium import PATIENCE_MILLISECONDS, chromium

from .conftest import PROJECT, Rehearsal
from .test_runbooks import blocks, run_blocks, shell

__all__ = ["shell"]

pytestmark = [pytest.mark.nightly, pytest.mark.browser]

WORKSPACE = "examples/typescript"
README = PROJECT / WORKSPACE / "README.md"
SERVER = f"{WORKSPACE}/apps/api/src/server.ts"
MIGRATIONS = f"{WORKSPACE}/packages/database/drizzle"
BUILD_SECONDS = 1800
CHOSEN = {"ALVA_SERVICES": f"{WORKSPACE}/services.py"}
PASSWORD = secrets.token_urlsafe(12)


@pytest.fixture(scope="module")
def released(rehearsal: Rehearsal, shell: dict[str, str]) -> Iterator[Rehearsal]:
    """Release the workspace's services with the command in its README; release the Python services at the end."""
    there, back = blocks(README)
    run_blocks([there], rehearsal, shell, timeout_seconds=BUILD_SECONDS)
    yield rehearsal
    run_blocks([back], rehearsal, shell, timeout_seconds=BUILD_SECONDS)
    digests = rehearsal.digests()
    assert all(digest and digest.startswith("sha256:") for digest in digests.values()), "the Python images serve again"
    verified = rehearsal.alva("verify")
    assert verified.returncode == 0, verified.stdout


@pytest.fixture(scope="module")
def page(released: Rehearsal) -> Iterator[Page]:
    """A tab of Chromium at the environment."""
    with chromium() as browser:
        context = browser.new_context(base_url=released.url)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        yield context.new_page()


def sign_up(page: Page, address: str) -> None:
    page.goto("/")
    form = page.locator("form", has=page.get_by_role("heading", name="Sign up"))
    form.get_by_label("E-mail address").fill(address)
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_role("button", name="Sign up").click()
    expect(page.get_by_role("heading", name="Your plans")).to_be_visible()


def test_customer_makes_a_plan_and_an_administrator_sees_it(page: Page, released: Rehearsal) -> None:
    customer, administrator = (f"{name}-{secrets.token_hex(4)}@example.com" for name in ("customer", "office"))
    sign_up(page, customer)
    page.get_by_label("Name of the business").fill("Bread & Salt")
    page.get_by_role("button", name="Make a plan").click()
    expect(page.get_by_role("heading", name="Bread & Salt")).to_be_visible()
    expect(page.get_by_role("listitem")).to_have_count(3)

    page.goto("/admin")
    expect(page.get_by_role("heading", name="This page is for administrators.")).to_be_visible()
    page.context.clear_cookies()
    sign_up(page, administrator)
    promoted = released.alva("run", "auth", "--", "node", "apps/auth/dist/promote.js", administrator)
    assert promoted.returncode == 0, promoted.stderr
    page.context.clear_cookies()
    page.goto("/admin")
    page.get_by_label("E-mail address").fill(administrator)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("row", name=customer)).to_contain_text("Bread & Salt")
    expect(page.get_by_role("row", name=customer)).to_contain_text("ready")


def test_release_is_verified_without_the_digest_header(released: Rehearsal) -> None:
    verified = released.alva("verify", "--json")
    assert verified.returncode == 0, verified.stdout
    assert not [name for name in released.get("/").headers if name.lower().startswith("x-alva")]


def test_service_that_does_not_start_is_rolled_back(released: Rehearsal) -> None:
    before = released.tasks()
    with released.replaced(SERVER, "const app = Fastify", 'throw new Error("broken on purpose");\nconst app = Fastify'):
        broken = released.alva(
            "deploy", "--service", "api", "--allow", "rules", timeout_seconds=BUILD_SECONDS, **CHOSEN
        )
    assert broken.returncode == 5, broken.stderr
    assert "broken on purpose" in broken.stderr
    assert "all services run the former version again" in broken.stderr
    assert released.tasks()["api"] == before["api"]
    assert released.get("/api/up").status == 200


def test_contraction_is_refused_before_it_runs(released: Rehearsal) -> None:
    journal = f"{MIGRATIONS}/meta/_journal.json"
    entries = json.loads((released.project / journal).read_text())
    entries["entries"].append(
        {**entries["entries"][0], "idx": 1, "when": entries["entries"][0]["when"] + 1, "tag": "0001_drop"}
    )
    migration = released.project / MIGRATIONS / "0001_drop.sql"
    migration.write_text('ALTER TABLE "planner"."plans" DROP COLUMN "business";\n')
    try:
        with released.edited(journal, json.dumps(entries)):
            refused = released.alva(
                "deploy", "--service", "api", "--allow", "rules", timeout_seconds=BUILD_SECONDS, **CHOSEN
            )
    finally:
        migration.unlink()
    assert refused.returncode == 3, refused.stderr
    assert "contraction: migration 0001_drop: drops column planner.plans.business" in refused.stderr
    assert released.get("/api/up").status == 200
