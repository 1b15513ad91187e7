"""Changing a password."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.apps.conftest import Outside, Person, PostgresServer
from tests.waiting import until

PASSWORD = "correct horse battery staple"
NEW_PASSWORD = "another password, long enough"


@pytest.fixture
def make_sessions_old(postgres: PostgresServer, database: str) -> Callable[[Person], None]:
    """Moves a user's sign-ins 16 minutes into the past."""

    def make(person: Person) -> None:
        with postgres.connect(database) as connection:
            connection.execute(
                "UPDATE auth.sessions SET created_at = created_at - interval '16 minutes' WHERE user_id = %s",
                [person.user_id],
            )

    return make


def test_stolen_session_cannot_change_the_password(
    sign_up: Callable[..., Person], make_sessions_old: Callable[[Person], None], browser: Callable[[], httpx.Client]
) -> None:
    person = sign_up(password=PASSWORD)
    make_sessions_old(person)
    refused = person.auth.put("/password", json={"password": NEW_PASSWORD})
    assert refused.status_code == 403
    assert "Enter your current password" in refused.json()["detail"]
    wrong = person.auth.put("/password", json={"password": NEW_PASSWORD, "current_password": "not this one"})
    assert (wrong.status_code, wrong.json()["detail"]) == (403, "The current password is not right.")
    assert browser().post("/login", json={"email": person.email, "password": PASSWORD}).status_code == 200


def test_stolen_session_cannot_set_a_first_password(
    sign_up: Callable[..., Person], make_sessions_old: Callable[[Person], None]
) -> None:
    person = sign_up()
    make_sessions_old(person)
    refused = person.auth.put("/password", json={"password": NEW_PASSWORD})
    assert (refused.status_code, refused.json()["detail"][:13]) == (403, "Sign in again")
    assert person.auth.get("/me").json()["has_password"] is False


def test_current_password_is_enough_at_any_time(
    sign_up: Callable[..., Person], make_sessions_old: Callable[[Person], None], browser: Callable[[], httpx.Client]
) -> None:
    person = sign_up(password=PASSWORD)
    make_sessions_old(person)
    body = {"password": NEW_PASSWORD, "current_password": PASSWORD}
    assert person.auth.put("/password", json=body).status_code == 204
    assert browser().post("/login", json={"email": person.email, "password": PASSWORD}).status_code == 401
    assert browser().post("/login", json={"email": person.email, "password": NEW_PASSWORD}).status_code == 200


def test_attempts_at_the_current_password_are_limited(sign_up: Callable[..., Person]) -> None:
    person = sign_up(password=PASSWORD)
    bodies = [{"password": NEW_PASSWORD, "current_password": f"guess number {number}"} for number in range(11)]
    assert [person.auth.put("/password", json=body).status_code for body in bodies] == [403] * 10 + [429]


def test_password_change_ends_the_other_sessions_and_mails_the_owner(
    sign_up: Callable[..., Person], browser: Callable[[], httpx.Client], outside: Outside
) -> None:
    person, phone = sign_up(password=PASSWORD), browser()
    phone.post("/login", json={"email": person.email, "password": PASSWORD})
    assert person.auth.put("/password", json={"password": NEW_PASSWORD}).status_code == 204, "a fresh sign-in"
    assert phone.post("/refresh").status_code == 401
    assert person.auth.post("/refresh").status_code == 200
    until(lambda: len(outside.mails_to(person.email)) == 2, "the mail that tells of the change")
    mail = outside.mails_to(person.email)[-1]
    assert mail["subject"] == "Your password for Alva was changed"
    assert "/account" in mail["text"]
    assert "token=" not in mail["text"]
