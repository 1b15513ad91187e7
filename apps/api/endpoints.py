"""The api's HTTP endpoints for customers."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.events import follow_plan, is_over
from api.schemas import (
    PlanPage,
    PlanView,
    Problem,
    ProfileBody,
    ProfileView,
    TaskBody,
    TaskList,
    TaskView,
)
from api.service import ApiService
from common import access
from common.tokens import Principal

REFUSALS: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (401, 403, 404, 409, 429, 503)}


def _service(request: Request) -> ApiService:
    service: ApiService = request.app.state.service
    return service


async def _user_id(principal: Annotated[Principal, Depends(access.signed_in)]) -> UUID:
    return UUID(principal.user_id)


Service = Annotated[ApiService, Depends(_service)]
UserId = Annotated[UUID, Depends(_user_id)]
PageSize = Annotated[int, Query(ge=1, le=100)]
Offset = Annotated[int, Query(ge=0, le=1_000_000)]
router = APIRouter(responses=REFUSALS)


@router.get("/profile")
async def show_profile(user_id: UserId, service: Service) -> ProfileView:
    """Return your business profile."""
    return ProfileView.model_validate(await service.find_profile(user_id))


@router.put("/profile")
async def save_profile(body: ProfileBody, user_id: UserId, service: Service) -> ProfileView:
    """Save your business profile."""
    return ProfileView.model_validate(await service.save_profile(user_id, body))


@router.post("/plans", status_code=202)
async def ask_for_plan(
    user_id: UserId,
    service: Service,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=100, pattern=r"^[\x21-\x7e]+$")] = None,
) -> PlanView:
    """Order a marketing plan. Its `events` report the progress. One Idempotency-Key orders one plan."""
    return PlanView.model_validate(await service.ask_for_plan(user_id, idempotency_key))


@router.get("/plans")
async def list_plans(user_id: UserId, service: Service, limit: PageSize = 20, offset: Offset = 0) -> PlanPage:
    """List your plans, newest first."""
    plans, total = await service.list_plans(user_id, limit, offset)
    return PlanPage(items=[PlanView.model_validate(plan) for plan in plans], total=total)


@router.get("/plans/{plan_id}")
async def show_plan(plan_id: UUID, user_id: UserId, service: Service) -> PlanView:
    """Return one of your plans."""
    return PlanView.model_validate(await service.find_plan(plan_id, user_id))


@router.get(
    "/plans/{plan_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Events `progress`, each with the plan's state"},
        204: {"description": "The plan is finished and the client has its state. An EventSource does not reconnect"},
    },
)
async def watch_plan(
    plan_id: UUID,
    request: Request,
    user_id: UserId,
    service: Service,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> Response:
    """Stream the progress of a plan as server-sent events until it is finished."""
    plan = await service.find_plan(plan_id, user_id)
    if is_over(plan, last_event_id):
        return Response(status_code=204)
    return StreamingResponse(
        follow_plan(plan, service, request.app.state.feed, request.app.state.stopping),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.post("/plans/{plan_id}/cancel")
async def cancel_plan(plan_id: UUID, user_id: UserId, service: Service) -> PlanView:
    """Cancel a plan."""
    return PlanView.model_validate(await service.cancel_plan(plan_id, user_id))


@router.get("/plans/{plan_id}/tasks")
async def list_tasks(plan_id: UUID, user_id: UserId, service: Service) -> TaskList:
    """List the plan's tasks."""
    tasks = await service.list_tasks(plan_id, user_id)
    return TaskList(items=[TaskView.model_validate(task) for task in tasks])


@router.patch("/tasks/{task_id}")
async def move_task(task_id: UUID, body: TaskBody, user_id: UserId, service: Service) -> TaskView:
    """Move a task on the board."""
    return TaskView.model_validate(await service.move_task(task_id, user_id, body.status))
