"""The api's database queries. Each function runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.schemas import IN_THE_MAKING
from api.tables import Plan, Profile, Task


async def find_profile(db: AsyncSession, user_id: UUID) -> Profile | None:
    """Return the user's profile."""
    return await db.get(Profile, user_id)


async def save_profile(db: AsyncSession, user_id: UUID, values: dict[str, Any]) -> Profile:
    """Add or replace the user's profile."""
    statement = insert(Profile).values(user_id=user_id, **values)
    statement = statement.on_conflict_do_update(
        index_elements=[Profile.user_id], set_={**values, "updated_at": func.now()}
    )
    await db.execute(statement)
    return (await db.scalars(select(Profile).where(Profile.user_id == user_id))).one()


async def add_plan(
    db: AsyncSession, user_id: UUID, profile: dict[str, Any], idempotency_key: str | None
) -> Plan | None:
    """Add a plan. Return None if one is unfinished or was ordered with this key."""
    statement = insert(Plan).values(user_id=user_id, profile=profile, idempotency_key=idempotency_key)
    plan_id = await db.scalar(statement.on_conflict_do_nothing().returning(Plan.id))
    return None if plan_id is None else await db.get(Plan, plan_id)


async def find_plan_by_key(db: AsyncSession, user_id: UUID, idempotency_key: str) -> Plan | None:
    """Return the plan that was ordered with this key."""
    return await db.scalar(select(Plan).where(Plan.user_id == user_id, Plan.idempotency_key == idempotency_key))


async def find_plan_in_the_making(db: AsyncSession, user_id: UUID) -> Plan | None:
    """Return the user's plan that is queued or running."""
    return await db.scalar(select(Plan).where(Plan.user_id == user_id, Plan.status.in_(IN_THE_MAKING)))


async def count_plans_of_last_day(db: AsyncSession, user_id: UUID) -> int:
    """Return how many plans the user ordered within 24 hours."""
    recent = Plan.created_at > func.now() - timedelta(days=1)
    return await db.scalar(select(func.count()).select_from(Plan).where(Plan.user_id == user_id, recent)) or 0


async def find_plan(db: AsyncSession, plan_id: UUID, user_id: UUID | None = None) -> Plan | None:
    """Return the plan if it is this user's. Without a user, return any plan."""
    query = select(Plan).where(Plan.id == plan_id)
    return await db.scalar(query if user_id is None else query.where(Plan.user_id == user_id))


async def list_plans(db: AsyncSession, user_id: UUID | None, limit: int, offset: int) -> tuple[list[Plan], int]:
    """Return the plans of one user or (None) of all users, newest first, and their total number."""
    page = select(Plan).order_by(Plan.created_at.desc(), Plan.id).limit(limit).offset(offset)
    count = select(func.count()).select_from(Plan)
    if user_id is not None:
        page, count = page.where(Plan.user_id == user_id), count.where(Plan.user_id == user_id)
    return list(await db.scalars(page)), await db.scalar(count) or 0


async def change_plan(db: AsyncSession, plan_id: UUID, *, only_from: Sequence[str], **values: Any) -> Plan | None:
    """Change a plan if its status is one of `only_from`; otherwise return None."""
    statement = (
        update(Plan)
        .where(Plan.id == plan_id, Plan.status.in_(only_from))
        .values(updated_at=func.now(), **values)
        .returning(Plan)
        .execution_options(populate_existing=True)
    )
    return (await db.scalars(statement)).one_or_none()


async def replace_tasks(db: AsyncSession, plan_id: UUID, tasks: Sequence[dict[str, Any]]) -> None:
    """Replace the plan's tasks by these, in this order."""
    await db.execute(delete(Task).where(Task.plan_id == plan_id))
    rows = [{"plan_id": plan_id, "position": position, **task} for position, task in enumerate(tasks)]
    await db.execute(insert(Task), rows)


async def list_tasks(db: AsyncSession, plan_id: UUID) -> list[Task]:
    """Return the plan's tasks in their order."""
    return list(await db.scalars(select(Task).where(Task.plan_id == plan_id).order_by(Task.position)))


async def change_task(db: AsyncSession, task_id: UUID, user_id: UUID, status: str) -> Task | None:
    """Change the status of a task of one of the user's plans. Return None if there is no such task."""
    own = select(Plan.id).where(Plan.user_id == user_id)
    statement = (
        update(Task)
        .where(Task.id == task_id, Task.plan_id.in_(own))
        .values(status=status, updated_at=func.now())
        .returning(Task)
    )
    return (await db.scalars(statement)).one_or_none()


async def list_forgotten_plans(db: AsyncSession, quiet_for: timedelta) -> list[UUID]:
    """Return the unfinished plans that have not changed for a while."""
    query = select(Plan.id).where(Plan.status.in_(IN_THE_MAKING), Plan.updated_at < func.now() - quiet_for)
    return list(await db.scalars(query))
