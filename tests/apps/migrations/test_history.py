"""The history of the schema, on a real PostgreSQL 16."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, create_engine, inspect
from sqlalchemy.engine import make_url

import api.tables
import auth.tables
from migrations import history
from tests.apps.conftest import PostgresServer, base_environment

REVISIONS = [revision for revision, _ in history.pending(None)]


@pytest.fixture
def empty_database(postgres: PostgresServer) -> str:
    return postgres.create_database()


@pytest.fixture
def connection(postgres: PostgresServer, empty_database: str) -> Iterator[Connection]:
    engine = create_engine(
        make_url(postgres.url(empty_database)).set(drivername="postgresql+psycopg"),
        connect_args={"password": postgres.password, "sslrootcert": str(postgres.authority_file)},
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def silent(line: str) -> None:
    del line


def run(
    postgres: PostgresServer, database: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    variables = {**base_environment(), **postgres.environment, "DATABASE_URL": postgres.url(database), **environment}
    return subprocess.run(
        [sys.executable, "-m", "migrations", *arguments], env=variables, capture_output=True, text=True, check=False
    )


def schema(connection: Connection) -> dict[str, object]:
    """Return everything that a revision can change, in a comparable form."""
    inspector = inspect(connection)
    result: dict[str, object] = {}
    for name in sorted(set(inspector.get_schema_names()) - {"information_schema"}):
        for table in sorted(inspector.get_table_names(schema=name)):
            result[f"{name}.{table}"] = (
                [
                    (column["name"], str(column["type"]), column["nullable"], column["default"])
                    for column in inspector.get_columns(table, schema=name)
                ],
                sorted(str(index) for index in inspector.get_indexes(table, schema=name)),
                sorted(str(check) for check in inspector.get_check_constraints(table, schema=name)),
                sorted(str(key) for key in inspector.get_foreign_keys(table, schema=name)),
            )
    connection.rollback()
    return result


@pytest.mark.parametrize("revision", REVISIONS)
def test_revision_can_be_downgraded_and_applied_again(connection: Connection, revision: str) -> None:
    before = REVISIONS[REVISIONS.index(revision) - 1] if revision != REVISIONS[0] else "base"
    history.upgrade(connection, silent, before) if before != "base" else None
    schema_before = schema(connection)
    history.upgrade(connection, silent, revision)
    schema_after = schema(connection)
    assert schema_after != schema_before
    history.downgrade(connection, silent, before)
    schema_before.setdefault("public.alembic_version", schema_after["public.alembic_version"])
    assert schema(connection) == schema_before
    history.upgrade(connection, silent, revision)
    assert schema(connection) == schema_after


def test_history_has_one_head() -> None:
    assert len(history.script_directory().get_heads()) == 1
    assert sorted(REVISIONS) == REVISIONS, "revisions are numbered in their order"


@pytest.mark.parametrize("metadata", [auth.tables.Table.metadata, api.tables.Table.metadata], ids=["auth", "api"])
def test_tables_in_the_code_match_the_history(connection: Connection, metadata: MetaData) -> None:
    history.upgrade(connection, silent)
    context = MigrationContext.configure(
        connection,
        opts={
            "include_schemas": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == metadata.schema,
            "compare_type": True,
        },
    )
    assert compare_metadata(context, metadata) == []


def test_command_migrates_an_empty_database_to_the_head_and_logs_each_revision(
    postgres: PostgresServer, empty_database: str
) -> None:
    assert run(postgres, empty_database, "check").returncode == 1
    done = run(postgres, empty_database)
    assert done.returncode == 0, done.stderr
    for revision in REVISIONS:
        assert f"applied {revision}: " in done.stdout
    assert run(postgres, empty_database, "current").stdout.strip() == REVISIONS[-1]
    assert run(postgres, empty_database, "check").returncode == 0
    again = run(postgres, empty_database)
    assert again.returncode == 0
    assert "applied" not in again.stdout


def test_concurrent_migrations_run_one_after_the_other(postgres: PostgresServer, empty_database: str) -> None:
    results: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: results.append(run(postgres, empty_database))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [result.returncode for result in results] == [0, 0], [result.stderr for result in results]
    assert sorted(result.stdout.count("applied") for result in results) == [0, len(REVISIONS)]


def test_table_in_use_stops_the_migration_with_code_75(
    postgres: PostgresServer, empty_database: str, connection: Connection
) -> None:
    history.upgrade(connection, silent, REVISIONS[0])
    with postgres.connect(empty_database) as user:
        user.autocommit = False
        user.execute("LOCK TABLE public.alembic_version IN ACCESS EXCLUSIVE MODE")
        failed = run(postgres, empty_database)
        user.rollback()
    assert failed.returncode == 75
    assert "lock timeout" in failed.stderr
    assert run(postgres, empty_database).returncode == 0


def test_unreachable_database_is_code_75_without_a_traceback(postgres: PostgresServer) -> None:
    failed = run(postgres, "nowhere")
    assert failed.returncode == 75
    assert failed.stderr.startswith("cannot migrate: ")
    assert "Traceback" not in failed.stderr
    assert postgres.password not in failed.stderr


def test_missing_settings_are_named(postgres: PostgresServer) -> None:
    variables = {**base_environment(), **postgres.environment}
    failed = subprocess.run(
        [sys.executable, "-m", "migrations"], env=variables, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 78
    assert "DATABASE_URL: is missing" in failed.stderr
