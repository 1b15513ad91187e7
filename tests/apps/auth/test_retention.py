"""Deletion of sign-in data that is no longer needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

import pytest

from auth import retention
from auth.retention import Retention
from common.database import Database
from tests.apps.conftest import Person, PostgresServer

TABLES = {
    "refresh_tokens": "session_id IN (SELECT id FROM auth.sessions WHERE user_id = %(id)s)",
    "sessions": "user_id = %(id)s",
    "links": "email = %(email)s",
    "audit": "subject = %(email)s",
}
TIMES = {
    "refresh_tokens": ("used_at",),
    "sessions": ("expires_at", "revoked_at"),
    "links": ("expires_at",),
    "audit": ("at",),
}


@pytest.fixture
def rows(postgres: PostgresServer, database: str) -> Callable[[Person], dict[str, int]]:
    """Counts a user's rows in each table."""

    def count(person: Person) -> dict[str, int]:
        values = {"id": person.user_id, "email": person.email}
        with postgres.connect(database) as connection:
            return {
                table: connection.execute(
                    f"SELECT count(*) FROM auth.{table} WHERE {where}",  # noqa: S608 - our own names
                    values,
                ).fetchone()[0]
                for table, where in TABLES.items()
            }

    return count


@pytest.fixture
def age(postgres: PostgresServer, database: str) -> Callable[[Person, str, timedelta], None]:
    """Moves the times of a user's rows in one table into the past."""

    def move(person: Person, table: str, by: timedelta) -> None:
        values = {"id": person.user_id, "email": person.email, "by": by}
        changes = ", ".join(f"{column} = {column} - %(by)s" for column in TIMES[table])
        with postgres.connect(database) as connection:
            connection.execute(f"UPDATE auth.{table} SET {changes} WHERE {TABLES[table]}", values)  # noqa: S608 - our own names

    return move


def delete(url: str) -> dict[str, int]:
    async def run() -> dict[str, int]:
        database = Database(url, application_name="test")
        try:
            return await retention.delete_expired(database, Retention())
        finally:
            await database.close()

    return asyncio.run(run())


@pytest.fixture
def database_url(service_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The database URL with the password, which auth gets separately."""
    for name in ("PGPASSWORD", "PGSSLROOTCERT"):
        if name in service_environment:
            monkeypatch.setenv(name, service_environment[name])
    return service_environment["DATABASE_URL"]


@pytest.mark.parametrize(
    ("table", "kept_for"),
    [
        ("refresh_tokens", Retention().used_refresh_tokens),
        ("sessions", Retention().ended_sessions),
        ("links", Retention().expired_links),
        ("audit", Retention().audit_entries),
    ],
)
def test_rows_are_deleted_after_their_retention_and_not_before(
    sign_up: Callable[..., Person],
    rows: Callable[[Person], dict[str, int]],
    age: Callable[[Person, str, timedelta], None],
    database_url: str,
    table: str,
    kept_for: timedelta,
) -> None:
    person = sign_up()
    person.auth.post("/refresh")
    person.auth.post("/logout")
    before = rows(person)
    assert all(before.values())
    a_month_of_validity = timedelta(days=31)  # The longest remaining lifetime.
    age(person, table, kept_for - timedelta(hours=1))
    delete(database_url)
    assert rows(person)[table] == before[table]
    age(person, table, timedelta(hours=2) + a_month_of_validity)
    delete(database_url)
    left = rows(person)
    unused_tokens = 1 if table == "refresh_tokens" else 0
    assert left[table] == unused_tokens
    untouched = set(TABLES) - {table} - ({"refresh_tokens"} if table == "sessions" else set())
    assert {name: left[name] for name in untouched} == {name: before[name] for name in untouched}


def test_signed_in_user_stays_signed_in(sign_up: Callable[..., Person], database_url: str) -> None:
    person = sign_up()
    delete(database_url)
    assert person.auth.post("/refresh").status_code == 200


def test_one_task_deletes_at_a_time(postgres: PostgresServer, database: str, database_url: str) -> None:
    with postgres.connect(database) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [retention._LOCK_KEY])
        assert delete(database_url) == {}
    assert set(delete(database_url)) == set(TABLES)


def test_deletion_continues_after_an_error(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    third_call = asyncio.Event()

    async def fail_twice(*_: object) -> dict[str, int]:
        nonlocal calls
        calls += 1
        if calls == 3:
            third_call.set()
            return {"links": 2}
        raise RuntimeError("first") if calls == 1 else ConnectionError("second")

    async def run() -> None:
        loop = asyncio.create_task(
            retention.run(Database("postgresql://nowhere/x", application_name="t"), Retention(), 0)
        )
        async with asyncio.timeout(30):
            await third_call.wait()
        loop.cancel()

    monkeypatch.setattr(retention, "delete_expired", fail_twice)
    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert sum("cannot delete expired rows" in record.message for record in caplog.records) == 2
