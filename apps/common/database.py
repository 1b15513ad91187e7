"""The connection to PostgreSQL: SQLAlchemy on psycopg, with a pool that fits what the smallest database allows.

db.t3.micro allows about 112 connections. Per task: api 5, worker 3, auth 5; twice that while a rolling update runs
both versions, plus the migration's one. The password comes from PGPASSWORD and the CA from PGSSLROOTCERT, both read by
libpq.
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
"""What is raised where the database does not answer."""


class Database:
    """A pool of connections; nothing is opened before the first use."""

    def __init__(self, url: str, *, application_name: str, pool_size: int = 5) -> None:
        """`url` is libpq's (`postgresql://user@host:5432/name?sslmode=verify-full`)."""
        self._engine = create_async_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            max_overflow=0,  # a connection beyond the pool would be made and closed for each request, TLS and all
            pool_use_lifo=True,
            pool_timeout=5,
            pool_recycle=600,
            pool_pre_ping=True,  # a connection that died in a failover is replaced, not handed out
            connect_args={
                "application_name": application_name,
                "connect_timeout": 5,
                "options": "-c statement_timeout=15000 -c idle_in_transaction_session_timeout=30000",
            },
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session whose work is committed at the end, or rolled back where the block raises."""
        async with self._sessions.begin() as session:
            yield session

    async def check(self) -> None:
        """Raise where the database does not answer."""
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()
