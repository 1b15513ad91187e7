"""The api's tables. `migrations` creates them, and a test compares both definitions."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, ForeignKey, Index, MetaData, SmallInteger, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_NEW_ID = text("gen_random_uuid()")
_NOW = text("now()")


class Table(DeclarativeBase):
    """The base class of the api's tables."""

    metadata = MetaData(schema="api")
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's name and kind
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
    }


class Profile(Table):
    """A customer's business profile."""

    __tablename__ = "profiles"

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    business_name: Mapped[str]
    industry: Mapped[str]
    audience: Mapped[str]
    goals: Mapped[list[str]]
    location: Mapped[str] = mapped_column(server_default="")
    website: Mapped[str] = mapped_column(server_default="")
    budget_per_month: Mapped[int | None]
    channels: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"))
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class Plan(Table):
    """A marketing plan, from its order on."""

    __tablename__ = "plans"
    __table_args__ = (
        UniqueConstraint("user_id", "idempotency_key", name="plans_idempotency_key"),
        Index("plans_newest_first", "user_id", text("created_at DESC")),
        Index(
            "plans_one_in_the_making",
            "user_id",
            unique=True,
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    user_id: Mapped[UUID]
    idempotency_key: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="queued")
    progress: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    step: Mapped[str] = mapped_column(server_default="")
    problem: Mapped[str] = mapped_column(server_default="")
    profile: Mapped[dict[str, Any]]
    content: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    finished_at: Mapped[datetime | None]

    @property
    def business_name(self) -> str:
        """The name of the business when the plan was ordered."""
        name: str = self.profile.get("business_name", "")
        return name


class Task(Table):
    """A task of a finished plan."""

    __tablename__ = "tasks"
    __table_args__ = (UniqueConstraint("plan_id", "position", name="tasks_position"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_ID)
    plan_id: Mapped[UUID] = mapped_column(ForeignKey("api.plans.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(SmallInteger)
    title: Mapped[str]
    description: Mapped[str]
    channel: Mapped[str] = mapped_column(server_default="")
    effort: Mapped[str]
    week: Mapped[int] = mapped_column(SmallInteger)
    is_quick_win: Mapped[bool] = mapped_column(server_default=text("false"))
    status: Mapped[str] = mapped_column(server_default="todo")
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)
