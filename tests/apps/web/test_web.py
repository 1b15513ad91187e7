"""Web in a browser without JavaScript, with the real auth, api and worker."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from html import unescape
from typing import Any

import httpx
import pytest

from tests.waiting import until

BUSINESS = {
    "business_name": "Hagen’s <Bakery>",
    "industry": "Bakery with a café",
    "audience": "Neighbours who come home from work",
    "goals": ["More new customers", "Customers who come back"],
    "channels": ["Newsletter"],
    "location": "Bonn",
    "website": "",
    "budget_per_month": "200",
}
Visit = Callable[..., httpx.Client]


def _new_email() -> str:
    return f"visitor-{secrets.token_hex(4)}@example.com"


def _hidden(text: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', text)
    assert found, f"no hidden field {name}"
    return unescape(found.group(1))


def _page_with(words: str, client: httpx.Client, path: str) -> str:
    """The page at `path` once it contains this text."""
    return until(lambda: words in (text := client.get(path).text) and text, f"{words!r} at {path}")


@pytest.fixture
def signed_in(visit: Visit, outside: Any) -> httpx.Client:
    """A browser of a user who signed up through the pages."""
    client = visit()
    email = _new_email()
    answer = client.post("/signup", data={"email": email})
    assert answer.headers["location"] == "/check-mail", answer.text
    client.get("/auth/verify", params={"token": outside.link_for(email)})
    assert client.cookies.get("alva_access")
    return client


@pytest.fixture
def ready_plan(signed_in: httpx.Client, worker: Any) -> str:  # noqa: ARG001 - it makes the plan
    """The path of a plan that the worker has made."""
    answer = signed_in.post("/onboarding", data=BUSINESS)
    assert answer.status_code == 303, answer.text
    path: str = answer.headers["location"]
    _page_with("Quick wins", signed_in, path)
    return path


def test_visitor_gets_from_the_first_page_to_a_finished_plan(visit: Visit, outside: Any, worker: Any) -> None:  # noqa: ARG001
    client = visit()
    email = _new_email()
    assert 'href="/signup"' in client.get("/").text
    answer = client.post("/signup", data={"email": email}, follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/check-mail")

    opened = client.get("/auth/verify", params={"token": outside.link_for(email)}, follow_redirects=True)
    assert (opened.status_code, opened.url.path) == (200, "/onboarding")

    outside.seconds_per_chunk = 0.05
    order = BUSINESS | {"order": _hidden(opened.text, "order")}
    making = client.post("/onboarding", data=order, follow_redirects=True)
    assert making.status_code == 200
    assert "Your plan is being made" in making.text
    assert f'data-events="/api{making.url.path}/events"' in making.text
    assert '<noscript><meta http-equiv="refresh"' in making.text

    text = _page_with("Quick wins", client, making.url.path)
    assert '<h1 class="break">Hagen’s &lt;Bakery&gt;</h1>' in text
    assert "A neighbourhood bakery that more people should know." in text
    assert making.url.path in client.get("/plans").text
    assert "Hagen’s <Bakery>" in unescape(client.get("/onboarding").text), "answers are stored"


def test_order_sent_twice_makes_one_plan(signed_in: httpx.Client, worker: Any) -> None:  # noqa: ARG001
    order = BUSINESS | {"order": _hidden(signed_in.get("/onboarding").text, "order")}
    first = signed_in.post("/onboarding", data=order)
    second = signed_in.post("/onboarding", data=order)
    assert first.headers["location"] == second.headers["location"]


def test_plan_can_be_cancelled_while_it_is_made(signed_in: httpx.Client, outside: Any, worker: Any) -> None:  # noqa: ARG001
    outside.seconds_per_chunk = 1.0
    path = signed_in.post("/onboarding", data=BUSINESS).headers["location"]
    stopped = signed_in.post(f"{path}/cancel", follow_redirects=True)
    assert stopped.url.path == path
    assert "This plan was stopped" in stopped.text
    again = signed_in.post(f"{path}/cancel", follow_redirects=True)
    assert (again.status_code, again.url.path) == (200, path), "a second press of the button is no error"


def test_failed_plan_is_shown_as_failed(signed_in: httpx.Client, outside: Any, worker: Any) -> None:  # noqa: ARG001
    outside.plan_faults.extend([401] * 10)  # Final: a retry with a wrong key cannot succeed.
    path = signed_in.post("/onboarding", data=BUSINESS).headers["location"]
    text = _page_with("This plan could not be made", signed_in, path)
    assert "Your answers are saved" in text
    assert "401" not in text


def test_task_moves_over_the_board(signed_in: httpx.Client, ready_plan: str) -> None:
    def columns() -> dict[str, str]:
        text = signed_in.get(f"{ready_plan}/board").text
        parts = re.split(r'<h2 id="column-\d">(To do|Doing|Done)', text)
        return dict(zip(parts[1::2], parts[2::2], strict=True))

    task = re.search(r'id="task-([0-9a-f-]{36})"', columns()["To do"])
    assert task
    for status, column in (("doing", "Doing"), ("done", "Done"), ("doing", "Doing"), ("todo", "To do")):
        answer = signed_in.post(f"{ready_plan}/board", data={"task": task.group(1), "status": status})
        assert answer.status_code == 303
        assert answer.headers["location"] == f"{ready_plan}/board#task-{task.group(1)}"
        assert [name for name, text in columns().items() if f"task-{task.group(1)}" in text] == [column]


def test_unknown_status_of_a_task_is_refused(signed_in: httpx.Client, ready_plan: str) -> None:
    answer = signed_in.post(f"{ready_plan}/board", data={"task": "0" * 32, "status": "burnt"})
    assert answer.status_code == 400


def test_plan_of_another_user_is_not_found(visit: Visit, outside: Any, ready_plan: str) -> None:
    stranger = visit()
    email = _new_email()
    stranger.post("/signup", data={"email": email})
    stranger.get("/auth/verify", params={"token": outside.link_for(email)})
    for path in (ready_plan, f"{ready_plan}/board"):
        answer = stranger.get(path)
        assert answer.status_code == 404
        assert "This page does not exist" in answer.text
    assert stranger.post(f"{ready_plan}/cancel").status_code == 404


def test_missing_answers_are_reported_beside_their_fields(signed_in: httpx.Client) -> None:
    answer = signed_in.post(
        "/onboarding", data={"business_name": "  ", "industry": "Bakery", "budget_per_month": "lots"}
    )
    assert answer.status_code == 422
    for name in ("business_name", "audience", "goals", "budget_per_month"):
        assert f'id="{name}-problem"' in answer.text
    assert 'id="industry-problem"' not in answer.text
    assert 'value="Bakery"' in answer.text, "the entered text stays in the form"
    assert "<title>Problem: " in answer.text


def test_answers_that_the_api_refuses_are_reported_beside_their_fields(signed_in: httpx.Client) -> None:
    answer = signed_in.post("/onboarding", data=BUSINESS | {"industry": "x" * 300, "budget_per_month": "99999999999"})
    assert answer.status_code == 422
    assert 'id="industry-problem"' in answer.text
    assert 'id="budget_per_month-problem"' in answer.text


def test_answers_are_shown_as_text_and_not_as_markup(signed_in: httpx.Client) -> None:
    script = "<script>alert(1)</script>"
    answer = signed_in.post("/onboarding", data={"business_name": script, "audience": script})
    assert script not in answer.text
    assert script in unescape(answer.text)


def test_password_signs_in_and_a_wrong_one_does_not(visit: Visit, outside: Any) -> None:
    client, email, password = visit(), _new_email(), secrets.token_urlsafe(12)
    client.post("/signup", data={"email": email, "password": password})
    client.get("/auth/verify", params={"token": outside.link_for(email)})

    other = visit()
    wrong = other.post("/signin", data={"email": email, "password": "not-" + password, "with": "password"})
    assert wrong.status_code == 401
    assert "do not fit together" in wrong.text
    assert f'value="{email}"' in wrong.text
    assert password not in wrong.text
    form = {"email": email, "password": password, "next": "/onboarding"}
    right = other.post("/signin", data=form, follow_redirects=True)
    assert (right.status_code, right.url.path) == (200, "/onboarding")
    assert other.cookies.get("alva_refresh")
    assert not other.cookies.get("alva_browser"), "it is no longer valid"


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example/x", "/\\evil.example"])
def test_sign_in_redirects_to_no_other_site(visit: Visit, outside: Any, target: str) -> None:
    client, email, password = visit(), _new_email(), secrets.token_urlsafe(12)
    client.post("/signup", data={"email": email, "password": password})
    client.get("/auth/verify", params={"token": outside.link_for(email)})
    form = {"email": email, "password": password, "next": target}
    answer = visit().post("/signin", data=form, follow_redirects=True)
    assert (answer.status_code, answer.url) == (200, "http://alva.test/plans")


def test_password_is_set_on_the_account_page_and_signs_in(visit: Visit, outside: Any) -> None:
    client, email, password = visit(), _new_email(), secrets.token_urlsafe(12)
    client.post("/signup", data={"email": email})
    client.get("/auth/verify", params={"token": outside.link_for(email)})
    page = client.get("/account").text
    assert email in page
    assert "Set a password" in page
    short = client.post("/account/password", data={"password": "short"})
    assert (short.status_code, 'id="password-problem"' in short.text) == (422, True)
    assert "short" not in re.sub(r"<[^>]+>", "", short.text), "it is not shown again"
    done = client.post("/account/password", data={"password": password}, follow_redirects=True)
    assert "Your password is set." in done.text
    assert "Change your password" in done.text
    wrong = client.post("/account/password", data={"password": "long enough, too", "current_password": "not this"})
    assert (wrong.status_code, "The current password is not right." in wrong.text) == (422, True)
    other = visit()
    signed_in = other.post("/signin", data={"email": email, "password": password}, follow_redirects=True)
    assert signed_in.url.path == "/plans"

    action = re.search(r'action="([^"]*logout-all[^"]*)"', done.text)
    assert action
    left = other.post(action.group(1), follow_redirects=True)
    assert (left.status_code, left.url.path) == (200, "/")
    client.cookies.delete("alva_access")
    assert client.get("/plans", follow_redirects=True).url.path == "/signin", "the first browser is signed out, too"


def test_account_page_requires_a_sign_in(visit: Visit) -> None:
    answer = visit().get("/account", follow_redirects=True)
    assert answer.url.path == "/signin"
    assert 'name="next" value="/account"' in answer.text


def test_web_never_gets_the_refresh_token(visit: Visit, outside: Any) -> None:
    client, email, password = visit(), _new_email(), secrets.token_urlsafe(12)
    client.post("/signup", data={"email": email, "password": password})
    client.get("/auth/verify", params={"token": outside.link_for(email)})
    answer = visit().post("/signin", data={"email": email, "password": password})
    assert answer.headers["location"].startswith("/auth/verify?token=")
    assert [cookie.split("=")[0] for cookie in answer.headers.get_list("set-cookie")] == ["alva_browser"]


def test_known_and_unknown_addresses_get_the_same_answer(visit: Visit, outside: Any) -> None:
    known, client = _new_email(), visit()
    client.post("/signup", data={"email": known})
    outside.link_for(known)
    for email in (known, _new_email()):
        for path, data in (("/signup", {}), ("/signin", {"with": "link"}), ("/signin", {"password": "x" * 12})):
            answer = visit().post(path, data={"email": email, **data})
            shown = answer.text.replace(email, "")
            assert (answer.status_code, answer.headers.get("location")) in {(303, "/check-mail"), (401, None)}
            assert "unknown" not in shown.lower()


def test_invalid_address_is_reported_beside_its_field(visit: Visit) -> None:
    answer = visit().post("/signup", data={"email": "nobody", "password": "short"})
    assert answer.status_code == 422
    assert 'id="email-problem"' in answer.text
    assert 'id="password-problem"' in answer.text


def test_used_link_redirects_to_the_sign_in_page_with_the_reason(visit: Visit, outside: Any) -> None:
    client, email = visit(), _new_email()
    client.post("/signup", data={"email": email})
    token = outside.link_for(email)
    client.get("/auth/verify", params={"token": token})
    again = visit().get("/auth/verify", params={"token": token}, follow_redirects=True)
    assert again.url.path == "/signin"
    assert "used already, or it is too old" in again.text


def test_expired_access_token_is_renewed_when_a_page_is_opened(signed_in: httpx.Client) -> None:
    before = signed_in.cookies.get("alva_refresh")
    signed_in.cookies.delete("alva_access")
    answer = signed_in.get("/plans", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/plans")
    assert signed_in.cookies.get("alva_refresh") != before, "each refresh token works once"


def test_form_with_an_expired_access_token_is_not_lost(signed_in: httpx.Client, worker: Any) -> None:  # noqa: ARG001
    signed_in.cookies.delete("alva_access")
    answer = signed_in.post("/onboarding", data=BUSINESS, follow_redirects=True)
    assert answer.status_code == 200
    assert re.fullmatch(r"/plans/[0-9a-f-]{36}", answer.url.path)


def test_forged_access_token_is_refused(visit: Visit) -> None:
    client = visit()
    client.cookies.set("alva_access", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", domain="alva.test")
    answer = client.get("/plans", follow_redirects=True)
    assert answer.url.path == "/signin", "auth has no refresh token of theirs, and there is no loop"


def test_signing_out_ends_the_session(signed_in: httpx.Client) -> None:
    action = re.search(r'action="([^"]*logout[^"]*)"', signed_in.get("/plans").text)
    assert action
    answer = signed_in.post(action.group(1), follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/")
    assert not signed_in.cookies.get("alva_access")
    assert signed_in.get("/plans", follow_redirects=True).url.path == "/signin"


def test_cookies_of_one_visitor_never_reach_another(visit: Visit, signed_in: httpx.Client) -> None:
    # The visitors' calls to auth and api share one client inside web.
    for _ in range(3):
        assert signed_in.get("/plans").status_code == 200
    client, stranger = visit(), visit()
    email, password = _new_email(), secrets.token_urlsafe(12)
    client.post("/signup", data={"email": email, "password": password})
    assert "set-cookie" not in stranger.get("/").headers
    assert stranger.get("/plans").status_code == 303


def test_cookies_are_secure_under_https_and_work_without(visit: Visit, outside: Any) -> None:
    for base_url, is_secure in (("http://alva.test", False), ("https://alva.test", True)):
        client, email, password = visit(base_url), _new_email(), secrets.token_urlsafe(12)
        client.post("/signup", data={"email": email, "password": password})
        client.get("/auth/verify", params={"token": outside.link_for(email)})
        other = visit(base_url)
        answer = other.post("/signin", data={"email": email, "password": password})
        signed_in = other.get(answer.headers["location"])
        cookies = answer.headers.get_list("set-cookie") + signed_in.headers.get_list("set-cookie")
        assert [cookie.split("=")[0] for cookie in cookies] == [
            "alva_browser",
            "alva_access",
            "alva_refresh",
            "alva_browser",
        ]
        assert all(("Secure" in cookie) is is_secure for cookie in cookies)
        assert all("HttpOnly" in cookie and "samesite=lax" in cookie.lower() for cookie in cookies)


def test_request_id_is_passed_through_all_services(signed_in: httpx.Client, web: Any, api: Any) -> None:
    request_id = secrets.token_hex(16)
    signed_in.get("/plans", headers={"X-Request-Id": request_id})

    def lines(service: Any) -> list[dict[str, Any]]:
        return [one for one in service.log_lines if one.get("request_id") == request_id and "path" in one]

    for service in (web, api):
        # A line is written after the response is sent.
        (line,) = until(lambda service=service: lines(service), "the request's line")
        assert line["user"]
        assert line["client"].startswith("198.51."), "the user's address, not web's"


def test_events_reach_the_page_with_its_cookie(signed_in: httpx.Client, outside: Any, worker: Any) -> None:  # noqa: ARG001
    outside.seconds_per_chunk = 0.05
    path = signed_in.post("/onboarding", data=BUSINESS).headers["location"]
    url = re.search(r'data-events="([^"]+)"', signed_in.get(path).text)
    assert url
    with signed_in.stream("GET", url.group(1)) as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        names = [line for line in events.iter_lines() if line.startswith("event:")]
    assert set(names) == {"event: progress"}
    assert "Quick wins" in signed_in.get(path).text, "the stream ends when the plan is ready"


def test_unavailable_plans_are_reported_without_a_sign_out(
    signed_in: httpx.Client, web_without_api: httpx.Client
) -> None:
    web_without_api.cookies.set("alva_access", signed_in.cookies["alva_access"])
    for path in ("/plans", "/onboarding"):
        answer = web_without_api.get(path)
        assert answer.status_code == 503
        assert "We cannot do this right now" in answer.text
        assert "set-cookie" not in answer.headers
    assert web_without_api.get("/").status_code == 200
