"""Users, roles, invitations and the audit log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from tests.apps.conftest import Outside, Person, PostgresServer, new_email


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/users", None),
        ("PATCH", "/users/00000000-0000-0000-0000-000000000000", {"role": "admin"}),
        ("POST", "/invitations", {"email": "a@example.com"}),
        ("GET", "/audit", None),
    ],
)
def test_customers_and_visitors_without_a_session_are_refused(
    sign_up: Callable[..., Person], browser: Callable[[], httpx.Client], method: str, path: str, body: object
) -> None:
    assert browser().request(method, path, json=body).status_code == 401
    assert sign_up().auth.request(method, path, json=body).status_code == 403


def test_user_promoted_by_an_operator_is_an_administrator_at_the_next_sign_in(
    sign_up: Callable[..., Person], service_environment: dict[str, str]
) -> None:
    person = sign_up(password="correct horse battery staple")
    environment = {**service_environment, "PORT": "3002", "PATH_PREFIX": "/auth"}
    subprocess.run([sys.executable, "-m", "auth.promote", person.email], env=environment, check=True)
    assert person.auth.get("/users").status_code == 403, "their access token still has the role customer"
    assert person.auth.post("/refresh").status_code == 401, "their sessions have ended"
    login = {"email": person.email, "password": "correct horse battery staple"}
    assert person.auth.post("/login", json=login).json()["role"] == "admin"
    assert person.auth.get("/users").status_code == 200


def test_role_changes_are_kept_in_the_audit_log_and_end_sessions(
    sign_up_administrator: Callable[[], Person], sign_up: Callable[..., Person]
) -> None:
    administrator, person = sign_up_administrator(), sign_up()
    answer = administrator.auth.patch(f"/users/{person.user_id}", json={"role": "admin"})
    assert answer.json()["role"] == "admin"
    assert person.auth.post("/refresh").status_code == 401
    entries = administrator.auth.get("/audit", params={"limit": 200}).json()["items"]
    change = next(entry for entry in entries if entry["action"] == "role changed" and entry["subject"] == person.email)
    assert change["actor"] == administrator.email
    assert change["details"] == {"before": "customer", "after": "admin"}


def test_administrator_whose_role_is_revoked_loses_access_at_once(
    sign_up_administrator: Callable[[], Person],
) -> None:
    first, second = sign_up_administrator(), sign_up_administrator()
    assert first.auth.patch(f"/users/{second.user_id}", json={"role": "customer"}).status_code == 200
    assert second.auth.get("/users").status_code == 403, "their access token still has the role admin"


def test_last_administrator_cannot_be_demoted(
    sign_up_administrator: Callable[[], Person], postgres: PostgresServer, database: str
) -> None:
    administrator = sign_up_administrator()
    with postgres.connect(database) as connection:
        connection.execute("UPDATE auth.users SET role = 'customer' WHERE id <> %s", [administrator.user_id])
    answer = administrator.auth.patch(f"/users/{administrator.user_id}", json={"role": "customer"})
    assert (answer.status_code, answer.json()["detail"]) == (409, "This is the last administrator.")


def test_invitation_signs_in_with_its_role(
    sign_up_administrator: Callable[[], Person], browser: Callable[[], httpx.Client], outside: Outside
) -> None:
    administrator = sign_up_administrator()
    email = new_email("invited")
    assert administrator.auth.post("/invitations", json={"email": email, "role": "admin"}).status_code == 202
    guest = browser()
    guest.post("/verify", params={"token": outside.link_for(email)})
    assert guest.get("/me").json()["role"] == "admin"


def test_invitation_as_customer_does_not_demote_an_administrator(
    sign_up_administrator: Callable[[], Person], outside: Outside
) -> None:
    administrator = sign_up_administrator()
    administrator.auth.post("/invitations", json={"email": administrator.email, "role": "customer"})
    administrator.auth.post("/verify", params={"token": outside.link_for(administrator.email)})
    assert administrator.auth.get("/me").json()["role"] == "admin"
