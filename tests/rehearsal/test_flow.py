"""A user's journey through the product, over HTTP through the load balancer."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator

import httpx
import pytest
from lib.config.services import SERVICES

from tests.waiting import until

from .environment import Rehearsal


def mails_to(rehearsal: Rehearsal, address: str) -> list[dict[str, str]]:
    """All mails to this address in the local inbox, newest first."""
    answer = httpx.get(f"{rehearsal.inbox}/api/messages", params={"to": address}).raise_for_status()
    return list(answer.json()["messages"])


def link_in(text: str, rehearsal: Rehearsal) -> str:
    match = re.search(re.escape(rehearsal.url) + r"/auth/verify\?[^\s\"'<>]+", text)
    assert match, f"no sign-in link in: {text}"
    return match.group(0).replace("&amp;", "&")


@pytest.fixture
def browser(rehearsal: Rehearsal) -> Iterator[httpx.Client]:
    """A client like a browser: it stores cookies, follows redirects, and sends the origin with a form."""
    with httpx.Client(
        base_url=rehearsal.url, follow_redirects=True, timeout=20, headers={"Origin": rehearsal.url}
    ) as client:
        yield client


def sign_up(browser: httpx.Client, rehearsal: Rehearsal, address: str) -> None:
    """Sign up with the form, and open the link in the mail."""
    assert browser.get("/").status_code == 200
    before = len(mails_to(rehearsal, address))
    assert browser.post("/signup", data={"email": address}).status_code == 200
    mails = until(lambda: (now := mails_to(rehearsal, address))[before:] and now, f"a new mail to {address}")
    landed = browser.get(link_in(mails[0]["text"], rehearsal))
    assert landed.status_code == 200, landed.text


ONBOARDING = {
    "business_name": "Bread & Salt",
    "industry": "Bakery",
    "audience": "Families in the neighbourhood",
    "goals": "Sell out before noon",
}


def test_customer_signs_up_describes_a_business_and_sees_the_plan_that_the_worker_made(
    rehearsal: Rehearsal, browser: httpx.Client
) -> None:
    sign_up(browser, rehearsal, "ada@example.com")
    answer = browser.post("/onboarding", data=ONBOARDING)
    assert answer.status_code == 200, answer.text
    plan_path = answer.url.path
    assert re.fullmatch(r"/plans/[\w-]+", plan_path)

    plan = until(
        lambda: (made := browser.get(f"/api{plan_path}").json()) and made["status"] == "ready" and made,
        "the plan",
    )
    page = browser.get(plan_path).text
    assert "Bread &amp; Salt" in page
    assert plan["content"]["summary"] in html.unescape(page)
    assert browser.get(f"/api{plan_path}/tasks").json()["items"]


def test_administrator_sees_users_and_jobs(rehearsal: Rehearsal, browser: httpx.Client) -> None:
    sign_up(browser, rehearsal, "grace@example.com")
    promoted = rehearsal.alva("run", "auth", "--", "python", "-m", "auth.promote", "grace@example.com")
    assert promoted.returncode == 0, promoted.stderr
    sign_up(browser, rehearsal, "grace@example.com")
    assert "grace@example.com" in browser.get("/admin/users").text
    assert browser.get("/admin/jobs").status_code == 200


def test_customer_is_refused_by_the_back_office(rehearsal: Rehearsal, browser: httpx.Client) -> None:
    sign_up(browser, rehearsal, "eve@example.com")
    assert browser.get("/admin/users").status_code == 403


def test_admin_is_reached_with_and_without_a_slash_and_below(rehearsal: Rehearsal) -> None:
    for path in ("/admin", "/admin/", "/admin/users"):
        served_by = httpx.get(rehearsal.url + path).headers["x-alva-service"]
        assert served_by == "admin", path


ATTEMPT = """
import json, os
written = []
for path in ("/app/made.txt", "/made.txt", "/etc/made.txt", "/tmp/made.txt"):
    try:
        open(path, "w").close()
        written.append(path)
    except OSError:
        pass
print(json.dumps({"uid": os.getuid(), "written": written}))
"""


@pytest.mark.parametrize("service", [service.name for service in SERVICES])
def test_service_has_no_capabilities_and_writes_only_to_tmp(rehearsal: Rehearsal, service: str) -> None:
    """Tested in a one-off task, which differs from the service's tasks in its command only."""
    ran = rehearsal.alva("run", service, "--", "python", "-c", ATTEMPT)
    assert ran.returncode == 0, ran.stderr
    found = next(json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{"))
    assert found == {"uid": 10001, "written": ["/tmp/made.txt"]}  # noqa: S108 - inside the task
