"""Where the database stands in the history, and bringing it to the end.

One migration at a time: an advisory lock makes a second one wait, then find nothing to do. Locks on tables are waited
for briefly only, since whatever queues behind a waiting ALTER TABLE is a user's request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

ADVISORY_LOCK = 0x616C7661  # "alva"
WAIT_FOR_ANOTHER_MIGRATION_SECONDS = 60
LOCK_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 300


def script_directory() -> ScriptDirectory:
    """The revisions as Alembic knows them."""
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def head() -> str:
    """The last revision of the history."""
    revision = script_directory().get_current_head()
    if revision is None:
        raise RuntimeError("the history has no revision")
    return revision


@contextmanager
def connect(database_url: str) -> Iterator[Connection]:
    """One connection to the database, named after us. Raises sqlalchemy.exc.OperationalError."""
    engine = create_engine(
        make_url(database_url).set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        connect_args={
            "application_name": "alva-migrations",
            "connect_timeout": 10,
            "options": f"-c lock_timeout={LOCK_TIMEOUT_SECONDS}s -c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s",
        },
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def current(connection: Connection) -> str | None:
    """The revision that the database is at; None for an empty one."""
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    return revision


def pending(since: str | None) -> list[tuple[str, str]]:
    """Revision and what it does, of those after `since`, in the order in which they run."""
    revisions = list(script_directory().iterate_revisions("head", since or "base"))
    return [(entry.revision, (entry.doc or "").strip()) for entry in reversed(revisions)]


def upgrade(connection: Connection, say: Callable[[str], None], target: str = "head") -> None:
    """Bring the database to `target`, each revision in a transaction of its own.

    Raises sqlalchemy.exc.OperationalError where another migration holds the lock for a minute, or a table's lock is
    not to be had; what has been committed before stays.
    """
    _move(connection, say, lambda config: command.upgrade(config, target))


def downgrade(connection: Connection, say: Callable[[str], None], target: str) -> None:
    """Take the database back to `target`; for tests and for people who know what they lose."""
    _move(connection, say, lambda config: command.downgrade(config, target))


def _move(connection: Connection, say: Callable[[str], None], run: Callable[[Config], None]) -> None:
    with _only_one(connection):
        config = _config()
        config.attributes["connection"] = connection
        config.attributes["say"] = say
        run(config)


@contextmanager
def _only_one(connection: Connection) -> Iterator[None]:
    connection.execute(text(f"SET lock_timeout = '{WAIT_FOR_ANOTHER_MIGRATION_SECONDS}s'"))
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"))
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()
