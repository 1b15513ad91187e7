"""The api's rules, without HTTP."""

from __future__ import annotations

import logging
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from api import repository
from api.queue import PlanQueue
from api.schemas import IN_THE_MAKING, ProfileBody, ProfileView
from api.tables import Plan, Profile, Task
from common.cache import UNAVAILABLE
from common.database import Database
from common.refusal import Refusal

log = logging.getLogger(__name__)

PLANS_PER_DAY = 30


class ApiService:
    """The rules of profiles, plans and tasks."""

    def __init__(self, database: Database, queue: PlanQueue) -> None:
        self._database = database
        self._queue = queue

    async def find_profile(self, user_id: UUID) -> Profile:
        """Return the user's profile. Raises Refusal (404)."""
        async with self._database.transaction() as db:
            profile = await repository.find_profile(db, user_id)
        if profile is None:
            raise Refusal(404, "There is no profile yet.")
        return profile

    async def save_profile(self, user_id: UUID, body: ProfileBody) -> Profile:
        """Add or replace the user's profile."""
        async with self._database.transaction() as db:
            return await repository.save_profile(db, user_id, body.model_dump())

    async def ask_for_plan(self, user_id: UUID, idempotency_key: str | None) -> Plan:
        """Add and queue a plan. Return the existing one if it was ordered with the same key or is unfinished.

        Raises Refusal: 409 without a profile, 429 for too many plans in a day.
        """
        async with self._database.transaction() as db:
            if idempotency_key is not None:
                plan = await repository.find_plan_by_key(db, user_id, idempotency_key)
                if plan is not None:
                    return plan
            profile = await repository.find_profile(db, user_id)
            if profile is None:
                raise Refusal(409, "Please tell us about your business first.")
            if await repository.count_plans_of_last_day(db, user_id) >= PLANS_PER_DAY:
                raise Refusal(429, "That is enough plans for one day.", retry_after_seconds=3600)
            snapshot = ProfileView.model_validate(profile).model_dump(mode="json", exclude={"updated_at"})
            plan = await repository.add_plan(db, user_id, snapshot, idempotency_key)
        if plan is None:
            # Another request ordered a plan at the same moment. That plan is returned.
            async with self._database.transaction() as db:
                if idempotency_key is not None:
                    plan = await repository.find_plan_by_key(db, user_id, idempotency_key)
                plan = plan or await repository.find_plan_in_the_making(db, user_id)
            if plan is None:
                raise Refusal(409, "Another plan was just finished. Please try again.")
            return plan
        await self._queue_plan(plan.id)
        return plan

    async def _queue_plan(self, plan_id: UUID) -> None:
        """Queue a committed plan. If the queue is not available, the worker's reconciliation queues it later."""
        try:
            await self._queue.renew(str(plan_id))
        except UNAVAILABLE as error:
            log.warning("cannot queue plan %s now; the worker will queue it: %s", plan_id, error)

    async def find_plan(self, plan_id: UUID, user_id: UUID | None) -> Plan:
        """Return the plan if it is this user's (None: any user's). Raises Refusal (404)."""
        async with self._database.transaction() as db:
            plan = await repository.find_plan(db, plan_id, user_id)
        if plan is None:
            raise Refusal(404, "There is no such plan.")
        return plan

    async def list_plans(self, user_id: UUID | None, limit: int, offset: int) -> tuple[list[Plan], int]:
        """Return a page of plans of one user or (None) of all users, and their total number."""
        async with self._database.transaction() as db:
            return await repository.list_plans(db, user_id, limit, offset)

    async def cancel_plan(self, plan_id: UUID, user_id: UUID | None) -> Plan:
        """Cancel a plan. A second call has no effect. Raises Refusal: 404, or 409 if the plan is finished."""
        await self.find_plan(plan_id, user_id)
        async with self._database.transaction() as db:
            plan = await repository.change_plan(
                db, plan_id, only_from=IN_THE_MAKING, status="cancelled", step="Cancelled"
            )
        if plan is None:
            plan = await self.find_plan(plan_id, user_id)
            if plan.status != "cancelled":
                raise Refusal(409, "This plan is finished already.")
        try:
            await self._queue.remove(str(plan_id))
            await self._queue.announce(str(plan_id))
        except UNAVAILABLE as error:
            log.warning("cannot remove the job of the cancelled plan %s; the worker will skip it: %s", plan_id, error)
        return plan

    async def retry_plan(self, plan_id: UUID) -> Plan:
        """Retry a plan that failed or was cancelled. Raises Refusal: 404, or 409 for any other status."""
        await self.find_plan(plan_id, None)
        try:
            async with self._database.transaction() as db:
                plan = await repository.change_plan(
                    db,
                    plan_id,
                    only_from=("failed", "cancelled"),
                    status="queued",
                    progress=0,
                    step="",
                    problem="",
                    finished_at=None,
                )
        except IntegrityError:
            raise Refusal(409, "Another plan of this user is in the making.") from None
        if plan is None:
            raise Refusal(409, "This plan neither failed nor was cancelled.")
        await self._queue_plan(plan_id)
        return plan

    async def list_tasks(self, plan_id: UUID, user_id: UUID) -> list[Task]:
        """Return the plan's tasks. Raises Refusal (404)."""
        await self.find_plan(plan_id, user_id)
        async with self._database.transaction() as db:
            return await repository.list_tasks(db, plan_id)

    async def move_task(self, task_id: UUID, user_id: UUID, status: str) -> Task:
        """Move a task on the board. Raises Refusal (404)."""
        async with self._database.transaction() as db:
            task = await repository.change_task(db, task_id, user_id, status)
        if task is None:
            raise Refusal(404, "There is no such task.")
        return task
