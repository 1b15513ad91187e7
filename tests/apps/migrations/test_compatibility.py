"""The previous release works with the schema of the next revision. Rolling updates and rollbacks require it.

`tests/unit/test_revisions.py` reads the revisions' sources; here each one is applied to a real database, and the new
schema is compared with the tables, columns, types and defaults that the earlier code uses. `test_previous_release.py`
runs the statements of that code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, inspect, text

from migrations import history

from .test_history import REVISIONS, connection, empty_database, silent

__all__ = ["connection", "empty_database"]


@dataclass(frozen=True)
class Column:
    type: str
    is_nullable: bool
    has_default: bool


@dataclass(frozen=True)
class Table:
    columns: dict[str, Column]
    constraints: frozenset[str]
    """Constraints on rows: unique indexes, checks, foreign keys."""


def read_schema(connection: Connection) -> dict[str, Table]:
    """Return the product's tables by schema and name."""
    inspector = inspect(connection)
    tables = {}
    for schema in set(inspector.get_schema_names()) - {"information_schema", "public"}:
        for name in inspector.get_table_names(schema=schema):
            columns = {
                column["name"]: Column(
                    str(column["type"]),
                    column["nullable"],
                    column["default"] is not None or column.get("identity") is not None,
                )
                for column in inspector.get_columns(name, schema=schema)
            }
            unique = [index["name"] for index in inspector.get_indexes(name, schema=schema) if index["unique"]]
            checks = [f"{check['name']}: {check['sqltext']}" for check in inspector.get_check_constraints(name, schema)]
            keys = [f"{key['name']}" for key in inspector.get_foreign_keys(name, schema)]
            tables[f"{schema}.{name}"] = Table(columns, frozenset(map(str, [*unique, *checks, *keys])))
    connection.rollback()
    return tables


def losses(before: dict[str, Table], after: dict[str, Table]) -> Iterator[str]:
    """Return, as text, the statements that are possible with the earlier schema and not with the later one."""
    for name, table in before.items():
        if name not in after:
            yield f"table {name} is gone"
            continue
        now = after[name]
        for column, old in table.columns.items():
            new = now.columns.get(column)
            if new is None:
                yield f"column {name}.{column} is gone"
                continue
            if new.type != old.type:
                yield f"column {name}.{column} was {old.type} and is {new.type}"
            if old.is_nullable and not new.is_nullable:
                yield f"column {name}.{column} takes no NULL any more"
            if old.has_default and not new.has_default and not new.is_nullable:
                yield f"column {name}.{column} lost its default"
        for column in now.columns.keys() - table.columns.keys():
            if not now.columns[column].is_nullable and not now.columns[column].has_default:
                yield f"column {name}.{column} is new and must be given"
        for constraint in sorted(now.constraints - table.constraints):
            yield f"{name} has a new constraint: {constraint}"


@pytest.fixture
def at_the_head(connection: Connection) -> Connection:
    history.upgrade(connection, silent)
    return connection


def test_every_revision_leaves_the_release_before_it_working(connection: Connection) -> None:
    before: dict[str, Table] = {}
    for revision in REVISIONS:
        history.upgrade(connection, silent, revision)
        after = read_schema(connection)
        assert list(losses(before, after)) == [], f"{revision} is a contraction: one release later, at the earliest"
        before = after


@pytest.mark.parametrize(
    ("change", "loss"),
    [
        ("DROP TABLE api.tasks", "table api.tasks is gone"),
        ("ALTER TABLE auth.users DROP COLUMN role", "column auth.users.role is gone"),
        ("ALTER TABLE auth.users RENAME COLUMN email TO address", "column auth.users.email is gone"),
        ("ALTER TABLE auth.sessions ALTER revoked_at TYPE date", "column auth.sessions.revoked_at was"),
        ("ALTER TABLE auth.links ALTER next SET NOT NULL", "column auth.links.next takes no NULL any more"),
        ("ALTER TABLE auth.users ALTER role DROP DEFAULT", "column auth.users.role lost its default"),
        ("ALTER TABLE auth.users ADD name text NOT NULL", "column auth.users.name is new and must be given"),
        ("CREATE UNIQUE INDEX one_each ON auth.sessions (user_id)", "auth.sessions has a new constraint: one_each"),
        ("ALTER TABLE auth.audit ADD CONSTRAINT c CHECK (actor <> '')", "auth.audit has a new constraint: c"),
    ],
)
def test_incompatible_change_is_named(at_the_head: Connection, change: str, loss: str) -> None:
    before = read_schema(at_the_head)
    at_the_head.execute(text(change))
    at_the_head.commit()
    found = list(losses(before, read_schema(at_the_head)))
    assert any(line.startswith(loss) for line in found), found


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE auth.users ADD name text",
        "ALTER TABLE auth.users ADD name text NOT NULL DEFAULT ''",
        "CREATE INDEX by_client ON auth.sessions (client)",
        "CREATE TABLE auth.devices (id uuid PRIMARY KEY)",
        "ALTER TABLE auth.sessions ALTER expires_at DROP NOT NULL",
    ],
)
def test_addition_is_compatible(at_the_head: Connection, change: str) -> None:
    before = read_schema(at_the_head)
    at_the_head.execute(text(change))
    at_the_head.commit()
    assert list(losses(before, read_schema(at_the_head))) == []
