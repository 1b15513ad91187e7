"""The deep check deletes the customer that a verification created, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from api.tables import Table as ApiTable
from auth.tables import Table as AuthTable
from common import deep_check
from tests.apps.conftest import PostgresServer, new_email


@pytest.fixture
def connection(
    postgres: PostgresServer, migrated_template: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A separate migrated database, which the deep check uses too."""
    name = postgres.create_database(template=migrated_template)
    for variable, value in {**postgres.environment, "DATABASE_URL": postgres.url(name)}.items():
        monkeypatch.setenv(variable, value)
    with postgres.connect(name) as connected:
        yield connected


def test_schemas_are_those_of_the_tables() -> None:
    assert {table.metadata.schema for table in (ApiTable, AuthTable)} == set(deep_check.SCHEMAS)


def test_customer_is_deleted_where_another_product_has_users_too(
    connection: psycopg.Connection[tuple[object, ...]],
) -> None:
    """examples/typescript in the same database: a second table `users`, with ids of another type."""
    email, other = new_email(), new_email()
    connection.execute("CREATE SCHEMA planner")
    connection.execute("CREATE TABLE planner.users (id bigint PRIMARY KEY, email text)")
    connection.execute("CREATE TABLE planner.plans (user_id bigint)")
    connection.execute("INSERT INTO planner.users VALUES (1, %s)", [email])
    connection.execute("INSERT INTO auth.users (email) VALUES (%s), (%s)", [email, other])
    connection.execute(
        "INSERT INTO api.profiles (user_id, business_name, industry, audience, goals)"
        " SELECT id, 'Bakery', 'Food', 'Neighbours', '{}' FROM auth.users WHERE email IN (%s, %s)",
        [email, other],
    )

    assert deep_check.delete_customer(email) == f"deleted 2 rows of {email}"

    assert connection.execute("SELECT email FROM auth.users").fetchall() == [(other,)]
    assert connection.execute("SELECT count(*) FROM api.profiles").fetchone() == (1,)
    assert connection.execute("SELECT email FROM planner.users").fetchall() == [(email,)]


@pytest.mark.usefixtures("connection")
def test_customer_without_a_sign_in_has_no_rows() -> None:
    email = new_email()
    assert deep_check.delete_customer(email) == f"deleted 0 rows of {email}"
