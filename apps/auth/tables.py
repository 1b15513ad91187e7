"""Auth's tables. `migrations` creates them, and a test compares both definitions."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, LargeBinary, MetaData, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Table(DeclarativeBase):
    """The base class of auth's tables."""

    metadata = MetaData(schema="auth")
    type_annotation_map = {str: Text, datetime: DateTime(timezone=True), bytes: LargeBinary, dict[str, Any]: JSONB}  # noqa: RUF012


_NEW_ID = text("gen_random_uuid()")
_NOW = text("now()")


class User(Table):
    """A user. They have confirmed their address, or were made an administrator."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str | None]
    role: Mapped[str] = mapped_column(server_default="customer")
    verified_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class Session(Table):
    """One sign-in. It lasts while its refresh token is renewed, until it expires or is revoked."""

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("auth.users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    client: Mapped[str] = mapped_column(server_default="")


class RefreshToken(Table):
    """A refresh token, stored as a hash. A late second use means that the token was stolen."""

    __tablename__ = "refresh_tokens"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("auth.sessions.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    used_at: Mapped[datetime | None]


class Link(Table):
    """A link in a mail, valid for one use. It stores the requested role and password until the address is confirmed."""

    __tablename__ = "links"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    email: Mapped[str] = mapped_column(index=True)
    purpose: Mapped[str]
    role: Mapped[str] = mapped_column(server_default="customer")
    password_hash: Mapped[str | None]
    browser_hash: Mapped[bytes | None]
    next: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class AuditEntry(Table):
    """An entry of the audit log."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=_NOW)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str] = mapped_column(server_default="")
    client: Mapped[str] = mapped_column(server_default="")
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
