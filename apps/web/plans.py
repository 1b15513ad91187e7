"""The list of plans, a plan and its progress, and the board of its tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from common.site.backends import Refused
from common.site.parts import Api, Pages, SignedIn

router = APIRouter(prefix="/plans")

STATUSES = {
    "queued": ("Waiting", "warn"),
    "running": ("In the making", "warn"),
    "ready": ("Ready", ""),
    "failed": ("Not made", "bad"),
    "cancelled": ("Stopped", "idle"),
}
"""Status of a plan -> its label and the style of its badge."""
COLUMNS = (("todo", "To do"), ("doing", "Doing"), ("done", "Done"))
MOVES = {
    "todo": (("doing", "Start"),),
    "doing": (("done", "Done"), ("todo", "Not now")),
    "done": (("doing", "Reopen"),),
}
"""Status of a task -> the next statuses, with the labels of their buttons."""
_PER_PAGE = 20


@router.get("")
async def show_plans(request: Request, pages: Pages, api: Api, _: SignedIn, page: int = 1) -> Response:
    """Show the visitor's plans, newest first."""
    page = max(page, 1)
    answer = await api.call(request, "GET", f"/api/plans?limit={_PER_PAGE}&offset={(page - 1) * _PER_PAGE}")
    found = answer.json()
    return pages.render(
        request,
        "plans.html",
        page="plans",
        plans=found["items"],
        statuses=STATUSES,
        newer=page - 1,
        older=page + 1 if page * _PER_PAGE < found["total"] else 0,
    )


@router.get("/{plan_id}")
async def show_plan(request: Request, pages: Pages, api: Api, _: SignedIn, plan_id: UUID) -> Response:
    """Show the plan, its progress, or the reason why it could not be made."""
    plan = await _find_plan(request, api, plan_id)
    if plan["status"] in {"queued", "running"}:
        events_url = f"{request.app.state.settings.next_public_api_url}/plans/{plan_id}/events"
        return pages.render(request, "plan_progress.html", page="plans", plan=plan, events_url=events_url)
    if plan["status"] == "ready":
        return pages.render(request, "plan.html", page="plans", plan=plan, content=plan["content"], tab="plan")
    return pages.render(request, "plan_stopped.html", page="plans", plan=plan)


@router.post("/{plan_id}/cancel")
async def cancel_plan(request: Request, api: Api, _: SignedIn, plan_id: UUID) -> Response:
    """Cancel the plan. A plan that is finished meanwhile is shown."""
    try:
        await api.call(request, "POST", f"/api/plans/{plan_id}/cancel")
    except Refused as refusal:
        if refusal.status != 409:
            raise
    return RedirectResponse(f"/plans/{plan_id}", status_code=303)


@router.get("/{plan_id}/cancel")
async def return_to_plan(plan_id: UUID) -> Response:
    """Redirect a browser that had to sign in again before it sent the form to the plan."""
    return RedirectResponse(f"/plans/{plan_id}", status_code=303)


@router.get("/{plan_id}/board")
async def show_board(request: Request, pages: Pages, api: Api, _: SignedIn, plan_id: UUID) -> Response:
    """Show the plan's tasks in three columns."""
    plan = await _find_plan(request, api, plan_id)
    if plan["status"] != "ready":
        return RedirectResponse(f"/plans/{plan_id}", status_code=303)
    tasks = (await api.call(request, "GET", f"/api/plans/{plan_id}/tasks")).json()["items"]
    columns = [(title, [task for task in tasks if task["status"] == status]) for status, title in COLUMNS]
    return pages.render(
        request, "board.html", page="plans", plan=plan, tab="board", columns=columns, moves=MOVES, total=len(tasks)
    )


@router.post("/{plan_id}/board")
async def move_task(
    request: Request,
    api: Api,
    _: SignedIn,
    plan_id: UUID,
    task: Annotated[UUID, Form()],
    status: Annotated[Literal["todo", "doing", "done"], Form()],
) -> Response:
    """Move a task to another column, and show it there."""
    await api.call(request, "PATCH", f"/api/tasks/{task}", json={"status": status})
    return RedirectResponse(f"/plans/{plan_id}/board#task-{task}", status_code=303)


async def _find_plan(request: Request, api: Api, plan_id: UUID) -> dict[str, Any]:
    plan: dict[str, Any] = (await api.call(request, "GET", f"/api/plans/{plan_id}")).json()
    return plan
