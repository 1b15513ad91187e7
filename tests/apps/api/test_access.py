"""Access control of the api: users, origins and invalid input."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.apps.api.conftest import PROFILE, sign_token
from tests.apps.conftest import KeyPair, PostgresServer, RunningProcess

NOBODYS = uuid.UUID(int=1)
"""The identifier of nothing."""


def bearer(headers: dict[str, str]) -> str:
    return headers["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/profile"),
        ("PUT", "/profile"),
        ("GET", "/plans"),
        ("POST", "/plans"),
        ("GET", f"/plans/{NOBODYS}"),
        ("GET", f"/plans/{NOBODYS}/events"),
        ("POST", f"/plans/{NOBODYS}/cancel"),
        ("GET", f"/plans/{NOBODYS}/tasks"),
        ("PATCH", f"/tasks/{NOBODYS}"),
        ("POST", f"/admin/jobs/{NOBODYS}/retry"),
    ],
)
def test_request_without_a_token_is_refused(api: RunningProcess, method: str, path: str) -> None:
    answer = httpx.request(method, f"{api.url}/api{path}", json={}, trust_env=False)
    assert answer.status_code == 401, answer.text
    assert answer.headers["www-authenticate"] == "Bearer"


def test_page_of_another_site_cannot_write_with_a_visitors_cookie(api: RunningProcess, keys: KeyPair) -> None:
    cookie = {"Cookie": f"alva_access={bearer(sign_token(keys))}"}

    def put(**headers: str) -> int:
        return httpx.put(
            f"{api.url}/api/profile", json=PROFILE, headers={**cookie, **headers}, trust_env=False
        ).status_code

    assert put(Origin=api.url) == 200
    assert put(Referer=f"{api.url}/onboarding") == 200
    assert put(Origin="https://partner.example") == 200, "one of CORS_ORIGINS"
    assert put(Origin="https://evil.example") == 403
    assert put(Origin="null") == 403
    assert put(Referer="https://evil.example/") == 403
    assert put() == 403, "browsers send the origin of an unsafe request; a request without one is not from our pages"
    reading = httpx.get(f"{api.url}/api/profile", headers=cookie, trust_env=False)
    assert reading.status_code == 200


def test_only_named_origins_may_read_with_credentials(api: RunningProcess, keys: KeyPair) -> None:
    def allowed(origin: str) -> str | None:
        headers = {**sign_token(keys), "Origin": origin}
        answer = httpx.get(f"{api.url}/api/plans", headers=headers, trust_env=False)
        origin_allowed: str | None = answer.headers.get("access-control-allow-origin")
        return origin_allowed

    assert allowed("https://partner.example") == "https://partner.example"
    for origin in ("https://evil.example", "https://partner.example:8443", "http://partner.example", "null", "*"):
        assert allowed(origin) is None, origin


def test_text_is_returned_unchanged_and_never_as_html(api: RunningProcess, keys: KeyPair) -> None:
    nasty = "<script>alert(1)</script>'; DROP TABLE api.profiles; -- {{7*7}} \u202e \U0001f35e"
    headers = sign_token(keys)
    with httpx.Client(base_url=f"{api.url}/api", headers=headers, trust_env=False) as client:
        saved = client.put("/profile", json={**PROFILE, "business_name": nasty, "goals": [nasty]})
        assert saved.status_code == 200, saved.text
        shown = client.get("/profile")
    assert shown.json()["business_name"] == nasty
    assert shown.headers["content-type"] == "application/json"
    assert shown.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "change",
    [
        {"business_name": ""},
        {"business_name": "   "},
        {"business_name": "x" * 201},
        {"business_name": "nul\x00"},
        {"goals": []},
        {"goals": ["x"] * 11},
        {"budget_per_month": -1},
        {"budget_per_month": 2**40},
        {"surprise": 1},
    ],
    ids=str,
)
def test_profile_that_makes_no_sense_is_refused_with_its_field(
    api: RunningProcess, keys: KeyPair, change: dict[str, object]
) -> None:
    answer = httpx.put(f"{api.url}/api/profile", json={**PROFILE, **change}, headers=sign_token(keys), trust_env=False)
    assert answer.status_code == 422
    assert next(iter(change)) in answer.json()["detail"][0]["loc"]


def test_many_requests_at_once_stay_within_the_tasks_share_of_connections(
    api: RunningProcess, keys: KeyPair, postgres: PostgresServer
) -> None:
    headers = sign_token(keys)
    seen = 0
    with (
        httpx.Client(base_url=f"{api.url}/api", headers=headers, trust_env=False, timeout=60) as client,
        postgres.connect("postgres") as watcher,
        ThreadPoolExecutor(20) as pool,
    ):
        answers = [pool.submit(client.get, "/plans") for _ in range(300)]
        while not all(answer.done() for answer in answers):
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'alva-api'"
            row = watcher.execute(query).fetchone()
            assert row is not None
            seen = max(seen, row[0])
        # On a busy machine a request can wait for a connection for 5 s; it is then refused.
        assert {200} <= {answer.result().status_code for answer in answers} <= {200, 503}
    assert 1 < seen <= 5, "docs/reference/service-contract.md"
