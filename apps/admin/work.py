"""Plans, and the jobs that make them."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse, Response

from admin.listing import AskedPart
from common.site.backends import Refused
from common.site.parts import Admin, Api, Pages

router = APIRouter()

STATES = ("waiting", "active", "delayed", "completed", "failed")
TONES = {"ready": "", "completed": "", "failed": "bad", "cancelled": "idle"}
"""Status of a plan or state of a job -> its style. All others mean that work goes on."""
_NOTICES = {
    "retry": "The job is back in the queue.",
    "cancel": "The job is cancelled.",
    "refused": "That is no longer possible: the job has moved on meanwhile.",
}

JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._:-]{1,100}$")]


@router.get("/plans")
async def show_plans(request: Request, pages: Pages, api: Api, _: Admin, part: AskedPart) -> Response:
    """Show the plans of all users, newest first."""
    found = (await api.call(request, "GET", f"/api/admin/plans?{part.query}")).json()
    return pages.render(
        request, "plans.html", page="plans", plans=found["items"], total=found["total"], part=part, tones=TONES
    )


@router.get("/jobs")
async def show_jobs(
    request: Request,
    pages: Pages,
    api: Api,
    _: Admin,
    part: AskedPart,
    state: Literal["", "waiting", "active", "delayed", "completed", "failed"] = "",
    done: str = "",
) -> Response:
    """Show the queue's jobs, of one state or all."""
    query = part.query + (f"&state={state}" if state else "")
    found = (await api.call(request, "GET", f"/api/admin/jobs?{query}")).json()
    return pages.render(
        request,
        "jobs.html",
        page="jobs",
        jobs=found["items"],
        total=found["total"],
        part=part,
        state=state,
        states=STATES,
        tones=TONES,
        notice=_NOTICES.get(done, ""),
    )


@router.get("/jobs/{job_id}/{action}")
async def return_to_jobs(pages: Pages) -> Response:
    """Redirect a browser that had to sign in again before it sent a form."""
    return RedirectResponse(pages.url("/jobs"), status_code=303)


@router.post("/jobs/{job_id}/{action}")
async def act_on_job(
    request: Request, pages: Pages, api: Api, _: Admin, job_id: JobId, action: Literal["retry", "cancel"]
) -> Response:
    """Retry or cancel a job."""
    done: str = action
    try:
        await api.call(request, "POST", f"/api/admin/jobs/{quote(job_id, safe='')}/{action}")
    except Refused as refusal:
        if refusal.status != 409:
            raise
        done = "refused"
    return RedirectResponse(f"{pages.url('/jobs')}?done={done}", status_code=303)
