"""The api's HTTP endpoints for administrators: the plans of all users, the queue and its jobs."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from api.endpoints import REFUSALS, Offset, PageSize, Service
from api.queue import COUNTED_STATES, QUEUE_NAME, PlanQueue, job_view
from api.schemas import (
    AdminPlanPage,
    AdminPlanView,
    JobPage,
    JobState,
    JobView,
    PlanProgress,
    QueueView,
)
from common import access
from common.refusal import Refusal


def _queue(request: Request) -> PlanQueue:
    queue: PlanQueue = request.app.state.queue
    return queue


Jobs = Annotated[PlanQueue, Depends(_queue)]
router = APIRouter(prefix="/admin", dependencies=[Depends(access.admin)], responses=REFUSALS)


@router.get("/plans")
async def list_plans(service: Service, limit: PageSize = 50, offset: Offset = 0) -> AdminPlanPage:
    """List the plans of all users, newest first."""
    plans, total = await service.list_plans(None, limit, offset)
    items = [AdminPlanView.model_validate(plan) for plan in plans]
    return AdminPlanPage(items=items, total=total)


@router.get("/queue")
async def show_queue(queue: Jobs) -> QueueView:
    """Return the number of jobs in each state and the number of workers."""
    return QueueView(name=QUEUE_NAME, counts=await queue.count(), workers=await queue.count_workers())


@router.get("/jobs")
async def list_jobs(
    queue: Jobs,
    state: Annotated[JobState | None, Query()] = None,
    limit: PageSize = 50,
    offset: Annotated[int, Query(ge=0, le=10_000)] = 0,
) -> JobPage:
    """List the queue's jobs, newest first."""
    jobs, total = await queue.list_jobs([state] if state else COUNTED_STATES, limit, offset)
    return JobPage(items=jobs, total=total)


@router.post("/jobs/{job_id}/retry")
async def retry_job(job_id: UUID, service: Service, queue: Jobs) -> JobView:
    """Retry a plan that failed or was cancelled."""
    await service.retry_plan(job_id)
    return await _show(queue, job_id)


@router.post("/jobs/{job_id}/cancel")
async def cancel_job(job_id: UUID, service: Service) -> PlanProgress:
    """Cancel a plan. The response is the plan, because its job may no longer exist."""
    return PlanProgress.model_validate(await service.cancel_plan(job_id, None))


async def _show(queue: PlanQueue, job_id: UUID) -> JobView:
    job = await queue.find(str(job_id))
    if job is None:
        raise Refusal(503, "The plan is not queued yet. The worker will queue it.", retry_after_seconds=15)
    return job_view(job, await queue.state(str(job_id)))
