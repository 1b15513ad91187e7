"""Admin in an administrator's browser, with the real auth, api and worker."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from html import unescape
from typing import Any

import httpx
import pytest

from tests.waiting import until

Visit = Callable[..., httpx.Client]
PAGES = ("/admin", "/admin/", "/admin/users", "/admin/plans", "/admin/jobs", "/admin/audit")
BUSINESS = {
    "business_name": "Back <office> bakery",
    "industry": "Bakery",
    "audience": "Neighbours",
    "goals": ["More new customers"],
}


def _new_email() -> str:
    return f"office-{secrets.token_hex(4)}@example.com"


def _sign_in(client: httpx.Client, person: Any) -> httpx.Client:
    """Give a browser on the whole site the session of a user who signed in at auth."""
    client.cookies.set("alva_access", person.access_token, domain="alva.test")
    return client


@pytest.fixture(scope="session")
def people() -> dict[str, Any]:
    """One administrator and one customer, for all tests that only read."""
    return {}


@pytest.fixture
def office(visit: Visit, sign_up_administrator: Callable[[], Any], people: dict[str, Any]) -> httpx.Client:
    """An administrator's browser."""
    if "administrator" not in people:
        people["administrator"] = sign_up_administrator()
    return _sign_in(visit(), people["administrator"])


@pytest.fixture
def customer(visit: Visit, sign_up: Callable[..., Any], people: dict[str, Any]) -> httpx.Client:
    """A customer's browser."""
    if "customer" not in people:
        people["customer"] = sign_up(_new_email())
    return _sign_in(visit(), people["customer"])


def _page_with(pattern: str, client: httpx.Client, path: str) -> str:
    """The page at `path` once the pattern is found in it."""
    return until(lambda: re.search(pattern, text := client.get(path).text) and text, f"{pattern!r} at {path}")


@pytest.mark.parametrize("path", PAGES)
def test_administrator_sees_the_page(office: httpx.Client, path: str) -> None:
    answer = office.get(path)
    assert answer.status_code == 200
    assert answer.headers["x-alva-service"] == "admin"
    assert len(re.findall(r"<h1\b", answer.text)) == 1


@pytest.mark.parametrize("path", PAGES)
def test_customer_is_refused(customer: httpx.Client, path: str) -> None:
    answer = customer.get(path)
    assert answer.status_code == 403
    assert "This is not open to you" in answer.text


@pytest.mark.parametrize("path", PAGES)
def test_visitor_without_a_session_is_redirected_to_the_sign_in_page(visit: Visit, path: str) -> None:
    answer = visit().get(path, follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/signin")
    assert re.search(r'name="next" value="/admin', answer.text), "the sign-in returns to the page"


@pytest.mark.parametrize("path", ["/admin/users/invitations", f"/admin/users/{'0' * 32}/role", "/admin/jobs/1/retry"])
def test_customer_cannot_send_the_forms(customer: httpx.Client, path: str) -> None:
    answer = customer.post(path, data={"role": "admin", "email": _new_email()})
    assert answer.status_code == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
def test_form_from_another_site_is_refused(office: httpx.Client, origin: str) -> None:
    email = _new_email()
    answer = office.post("/admin/users/invitations", data={"role": "admin", "email": email}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert "came from elsewhere" in answer.text


def test_links_and_files_stay_under_the_prefix(office: httpx.Client) -> None:
    text = office.get("/admin").text
    targets = re.findall(r'(?:href|src|action)="([^"]+)"', text)
    assert targets
    assert {target for target in targets if not target.startswith(("/admin", "#"))} == {"/auth/logout?next=/"}
    for target in targets:
        if target.startswith("/admin/static/"):
            assert office.get(target).status_code == 200


def test_overview_shows_the_queue_and_the_running_services(office: httpx.Client, worker: Any) -> None:  # noqa: ARG001
    text = _page_with(r"1 worker\b", office, "/admin")
    for service in ("web", "api", "auth", "admin"):
        assert re.search(rf'<th scope="row">{service}</th>.*?sha256:a{{64}}', text, re.DOTALL)


def test_administrator_finds_a_user_and_changes_the_role(
    office: httpx.Client, visit: Visit, sign_up: Callable[..., Any]
) -> None:
    person = sign_up(_new_email())
    found = office.get("/admin/users", params={"search": person.email})
    assert "1 user with" in found.text
    answer = office.post(
        f"/admin/users/{person.user_id}/role", data={"role": "admin", "search": person.email}, follow_redirects=True
    )
    assert "The role is changed." in answer.text
    assert "<option selected>admin</option>" in answer.text
    audit = unescape(office.get("/admin/audit").text)
    assert person.email in audit or person.user_id in audit
    # The session ended with the old role: the old token is refused, and a new sign-in opens the back office.
    assert _sign_in(visit(), person).get("/admin").status_code == 403


def test_administrator_cannot_revoke_their_own_role(office: httpx.Client) -> None:
    text = office.get("/admin/users").text
    assert re.search(r'admin <span class="quiet">\(you\)</span>', text)


def test_invitation_arrives_and_signs_in_with_its_role(office: httpx.Client, visit: Visit, outside: Any) -> None:
    email = _new_email()
    answer = office.post("/admin/users/invitations", data={"email": email, "role": "admin"}, follow_redirects=True)
    assert "The invitation is on its way." in answer.text
    invited = visit()
    invited.post("/auth/verify", params={"token": outside.link_for(email)})
    assert invited.get("/admin").status_code == 200


def test_invitation_to_an_invalid_address_is_refused_with_a_message(office: httpx.Client) -> None:
    answer = office.post("/admin/users/invitations", data={"email": "nobody", "role": "customer"})
    assert answer.status_code == 422
    assert "Please enter an e-mail address" in answer.text
    assert 'value="nobody"' in answer.text


def test_failed_job_is_shown_and_can_be_retried(
    office: httpx.Client,
    customer: httpx.Client,
    outside: Any,
    worker: Any,  # noqa: ARG001
) -> None:
    outside.plan_faults.append(401)
    path = customer.post("/onboarding", data=BUSINESS).headers["location"]
    plan_id = path.rsplit("/", 1)[1]
    _page_with(plan_id, office, "/admin/jobs?state=failed")
    assert "Back <office> bakery" in unescape(office.get("/admin/plans").text)
    assert "Back <office> bakery" not in office.get("/admin/plans").text

    answer = office.post(f"/admin/jobs/{plan_id}/retry", follow_redirects=True)
    assert "The job is back in the queue." in answer.text
    _page_with("Quick wins", customer, path)
    _page_with(plan_id, office, "/admin/jobs?state=completed")
    for action in ("retry", "cancel"):
        answer = office.post(f"/admin/jobs/{plan_id}/{action}", follow_redirects=True)
        assert "no longer possible" in answer.text, "a second press of the button is no error page"


def test_job_is_cancelled(
    office: httpx.Client,
    customer: httpx.Client,
    outside: Any,
    worker: Any,  # noqa: ARG001
) -> None:
    outside.seconds_per_chunk = 1.0
    path = customer.post("/onboarding", data=BUSINESS).headers["location"]
    plan_id = path.rsplit("/", 1)[1]
    answer = office.post(f"/admin/jobs/{plan_id}/cancel", follow_redirects=True)
    assert "The job is cancelled." in answer.text
    assert "This plan was stopped" in customer.get(path).text


@pytest.mark.parametrize("query", ["?page=0", "?page=x", "?page=999999", "?state=burnt"])
def test_invalid_query_gives_a_page(office: httpx.Client, query: str) -> None:
    answer = office.get(f"/admin/jobs{query}")
    assert answer.status_code == 400
    assert "cannot be read" in answer.text


@pytest.mark.parametrize("path", ["/admin/users/invitations", f"/admin/users/{'0' * 32}/role", "/admin/jobs/1/retry"])
def test_form_interrupted_by_a_sign_in_redirects_to_its_page(office: httpx.Client, path: str) -> None:
    answer = office.get(path, follow_redirects=True)
    assert answer.status_code == 200
    assert answer.url.path == "/".join(path.split("/")[:3])


def test_long_list_has_pages(office: httpx.Client, sign_up: Callable[..., Any]) -> None:
    for _ in range(3):
        sign_up(_new_email())
    text = office.get("/admin/users").text
    total = int(re.search(r"<caption>(\d+) user", text).group(1))  # type: ignore[union-attr]
    rows = len(re.findall(r'<th scope="row">', text))
    assert rows == min(total, 25)
    assert ('href="/admin/users?page=2"' in text) is (total > 25)
