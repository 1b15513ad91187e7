"""The database's current revision, and upgrades.

An advisory lock lets one migration run at a time; a second one waits and then has nothing to do. The timeout for table
locks is short, because users' requests queue behind a waiting ALTER TABLE.
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
    """Return the revisions as Alembic reads them."""
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def head() -> str:
    """Return the latest revision."""
    revision = script_directory().get_current_head()
    if revision is None:
        raise RuntimeError("the history has no revision")
    return revision


@contextmanager
def connect(database_url: str) -> Iterator[Connection]:
    """Open one named connection to the database. Raises sqlalchemy.exc.OperationalError."""
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
    """Return the database's revision, or None if it is empty."""
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    return revision


def pending(since: str | None) -> list[tuple[str, str]]:
    """Return the id and title of each revision after `since`, in the order in which they run."""
    revisions = list(script_directory().iterate_revisions("head", since or "base"))
    return [(entry.revision, (entry.doc or "").strip()) for entry in reversed(revisions)]


def upgrade(connection: Connection, say: Callable[[str], None], target: str = "head") -> None:
    """Upgrade the database to `target`. Each revision has its own transaction.

    Raises sqlalchemy.exc.OperationalError if another migration holds the lock for a minute, or if a table's lock is not
    available. Earlier revisions stay committed.
    """
    _move(connection, say, lambda config: command.upgrade(config, target))


def downgrade(connection: Connection, say: Callable[[str], None], target: str) -> None:
    """Downgrade the database to `target`, which deletes data. Tests use it."""
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
