"""Auth's database queries. Each function runs in the caller's transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auth.tables import AuditEntry, Link, RefreshToken, Session, User


async def find_user(db: AsyncSession, user_id: UUID) -> User | None:
    """Return the user with this id."""
    return await db.get(User, user_id)


async def find_user_by_email(db: AsyncSession, email: str) -> User | None:
    """Return the user with this address (lower case)."""
    return await db.scalar(select(User).where(User.email == email))


async def find_or_add_user(db: AsyncSession, email: str) -> User:
    """Return the user with this address, and add them if there is none. The row is locked until the end of the
    transaction.
    """
    await db.execute(insert(User).values(email=email).on_conflict_do_nothing(index_elements=[User.email]))
    return (await db.scalars(select(User).where(User.email == email).with_for_update())).one()


async def list_users(db: AsyncSession, search: str, limit: int, offset: int) -> tuple[list[User], int]:
    """Return the users whose address contains `search`, newest first, and their total number."""
    if "\0" in search:  # PostgreSQL's type text cannot contain it, so no address does.
        return [], 0
    matching = User.email.contains(search.lower(), autoescape=True)
    page = select(User).where(matching).order_by(User.created_at.desc(), User.id).limit(limit).offset(offset)
    total = await db.scalar(select(func.count()).select_from(User).where(matching))
    return list(await db.scalars(page)), total or 0


async def lock_administrators(db: AsyncSession) -> list[UUID]:
    """Return the administrators' ids and lock the rows, so that two administrators cannot demote each other at once."""
    return list(await db.scalars(select(User.id).where(User.role == "admin").order_by(User.id).with_for_update()))


async def add_session(db: AsyncSession, user_id: UUID, expires_at: datetime, client: str) -> Session:
    """Add a session."""
    session = Session(user_id=user_id, expires_at=expires_at, client=client)
    db.add(session)
    await db.flush()
    return session


async def find_session(db: AsyncSession, session_id: UUID) -> Session | None:
    """Return the session with this id."""
    return await db.get(Session, session_id)


async def add_refresh_token(db: AsyncSession, session_id: UUID, token_hash: bytes) -> None:
    """Add a refresh token to the session."""
    db.add(RefreshToken(session_id=session_id, token_hash=token_hash))


async def lock_refresh_token(db: AsyncSession, token_hash: bytes) -> tuple[RefreshToken, Session] | None:
    """Return the refresh token and its session, locked until the end of the transaction."""
    query = (
        select(RefreshToken, Session)
        .join(Session, Session.id == RefreshToken.session_id)
        .where(RefreshToken.token_hash == token_hash)
        .with_for_update()
    )
    row = (await db.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def revoke_session(db: AsyncSession, session_id: UUID) -> None:
    """End one session."""
    await db.execute(
        update(Session).where(Session.id == session_id, Session.revoked_at.is_(None)).values(revoked_at=func.now())
    )


async def revoke_sessions(db: AsyncSession, user_id: UUID, *, keep: UUID | None = None) -> None:
    """End all sessions of a user, except the session `keep`."""
    ended = update(Session).where(Session.user_id == user_id, Session.revoked_at.is_(None))
    if keep is not None:
        ended = ended.where(Session.id != keep)
    await db.execute(ended.values(revoked_at=func.now()))


async def add_link(db: AsyncSession, link: Link) -> UUID:
    """Add a link and return its id."""
    db.add(link)
    await db.flush()
    return link.id


async def is_link_open(db: AsyncSession, link_id: UUID) -> bool:
    """Return whether the link can be used, without using it."""
    return await db.scalar(select(Link.id).where(Link.id == link_id, *_open())) is not None


async def take_link(db: AsyncSession, link_id: UUID, only_browser: bytes | None = None) -> Link | None:
    """Mark the link as used and return it, or return None if it was used before, expired or does not exist.

    With `only_browser`, also return None if another browser requested the link.
    """
    taken = update(Link).where(Link.id == link_id, *_open()).values(used_at=func.now()).returning(Link)
    if only_browser is not None:
        taken = taken.where(Link.browser_hash == only_browser)
    return (await db.scalars(taken)).one_or_none()


def _open() -> tuple[ColumnElement[bool], ...]:
    return Link.used_at.is_(None), Link.expires_at > func.now()


async def add_audit(
    db: AsyncSession, actor: str, action: str, *, subject: str = "", client: str = "", **details: Any
) -> None:
    """Add an entry to the audit log."""
    db.add(AuditEntry(actor=actor, action=action, subject=subject, client=client, details=details))


async def list_audit(db: AsyncSession, limit: int, offset: int) -> tuple[list[AuditEntry], int]:
    """Return entries of the audit log, newest first, and their total number."""
    page = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit).offset(offset)
    total = await db.scalar(select(func.count()).select_from(AuditEntry))
    return list(await db.scalars(page)), total or 0
