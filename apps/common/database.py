"""The connection to PostgreSQL: SQLAlchemy on psycopg, with a small connection pool.

The pool sizes add up to less than the smallest instance class allows, also while a rolling update runs two tasks of
each service. `database_connections` in infrastructure/lib/config/services.py has the numbers. libpq reads the password
from PGPASSWORD and the CA file from PGSSLROOTCERT.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeoutError)
"""The exceptions that mean that the database is not available."""


class Database:
    """A pool of connections, which are opened at first use."""

    def __init__(self, url: str, *, application_name: str, pool_size: int = 5) -> None:
        """`url` has libpq's form: `postgresql://user@host:5432/name?sslmode=verify-full`."""
        self._engine = create_async_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            max_overflow=0,  # An overflow connection would be opened and closed for each request, with a TLS handshake.
            pool_use_lifo=True,
            pool_timeout=5,
            pool_recycle=600,
            pool_pre_ping=True,  # Replaces a connection that broke in a failover.
            connect_args={
                "application_name": application_name,
                "connect_timeout": 5,
                "options": "-c statement_timeout=15000 -c idle_in_transaction_session_timeout=30000",
            },
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Open a session that is committed at the end of the block, or rolled back if the block raises."""
        async with self._sessions.begin() as session:
            yield session

    async def check(self) -> None:
        """Raise an exception if the database is not available."""
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()
