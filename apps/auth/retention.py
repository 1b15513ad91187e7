"""Deletes sign-in data that is no longer needed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, delete, func, or_, select

from auth.tables import AuditEntry, Link, RefreshToken, Session, Table
from common.database import UNAVAILABLE, Database

log = logging.getLogger(__name__)

SECONDS_BETWEEN_RUNS = 3600.0
_LOCK_KEY = 0x616C7661
"""Key of the advisory lock that lets one task at a time delete rows."""


@dataclass(frozen=True)
class Retention:
    """How long each kind of row is kept."""

    used_refresh_tokens: timedelta = timedelta(days=7)
    """Counted from its use. A copy of the token that is used later is refused as unknown."""
    ended_sessions: timedelta = timedelta(days=30)
    """Counted from the end of the session. Its refresh tokens are deleted with it."""
    expired_links: timedelta = timedelta(days=7)
    audit_entries: timedelta = timedelta(days=400)
    """One year, and a month in which the whole year can be reviewed."""


async def delete_expired(database: Database, retention: Retention) -> dict[str, int]:
    """Delete every row that is older than its retention.

    Return the number of deleted rows per table, or an empty dictionary if another task is deleting.
    """
    now = func.now()
    expired: dict[type[Table], ColumnElement[bool]] = {
        RefreshToken: RefreshToken.used_at < now - retention.used_refresh_tokens,
        Session: or_(
            Session.revoked_at < now - retention.ended_sessions, Session.expires_at < now - retention.ended_sessions
        ),
        Link: Link.expires_at < now - retention.expired_links,
        AuditEntry: AuditEntry.at < now - retention.audit_entries,
    }
    async with database.transaction() as db:
        if not await db.scalar(select(func.pg_try_advisory_xact_lock(_LOCK_KEY))):
            return {}
        deleted: dict[str, int] = {}
        for table, condition in expired.items():
            rows = (await db.scalars(delete(table).where(condition).returning(*table.__mapper__.primary_key))).all()
            deleted[str(table.__tablename__)] = len(rows)
        return deleted


async def run(database: Database, retention: Retention, seconds_between_runs: float = SECONDS_BETWEEN_RUNS) -> None:
    """Delete what has expired, at regular intervals, until cancelled. A run that fails is logged and repeated later."""
    while True:
        await asyncio.sleep(seconds_between_runs)
        try:
            deleted = await delete_expired(database, retention)
        except UNAVAILABLE as error:
            log.warning("cannot delete expired rows: %s: %s", type(error).__name__, error)
        except Exception:
            log.exception("cannot delete expired rows")
        else:
            if any(deleted.values()):
                log.info("deleted expired rows: %s", ", ".join(f"{count} {name}" for name, count in deleted.items()))
