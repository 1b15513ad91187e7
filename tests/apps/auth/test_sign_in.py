"""Registration and sign-in, as a browser sees them."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from tests.apps.conftest import Outside


def test_person_registers_opens_the_link_and_is_signed_in(
    browser: Callable[[], httpx.Client], outside: Outside
) -> None:
    client = browser()
    answer = client.post("/register", json={"email": " New.Person@Example.com "})
    assert answer.status_code == 202
    token = outside.link_for("new.person@example.com")
    opened = client.get("/verify", params={"token": token})
    assert opened.status_code == 303
    assert opened.headers["location"] == "/onboarding"
    me = client.get("/me").json()
    assert (me["email"], me["role"], me["is_verified"]) == ("new.person@example.com", "customer", True)
