"""The first page: numbers of users, plans and jobs, and the digest that each service runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import Response

from admin.work import STATES
from common.site.backends import Backend
from common.site.parts import Admin, Api, Auth, Pages

router = APIRouter()


@dataclass(frozen=True)
class Running:
    """The image digest that one task of a service reports."""

    service: str
    digest: str
    """Empty if it is unknown; `problem` has the reason."""
    problem: str = ""


@router.get("/")
async def show_overview(request: Request, pages: Pages, api: Api, auth: Auth, _: Admin) -> Response:
    """Show the counts, the queue and the running digests."""
    web: Backend = request.app.state.web
    queue, plans, users, *running = await asyncio.gather(
        _get(api, request, "/api/admin/queue"),
        _get(api, request, "/api/admin/plans?limit=1"),
        _get(auth, request, "/auth/users?limit=1"),
        *(_ask_what_runs(backend) for backend in (web, api, auth)),
    )
    own = Running("admin", request.app.state.settings.image_digest)
    return pages.render(
        request,
        "overview.html",
        page="overview",
        queue=queue | {"counts": _in_order(queue["counts"])},
        plans_total=plans["total"],
        users_total=users["total"],
        running=[*running, own],
        environment=request.app.state.settings.environment,
    )


def _in_order(counts: dict[str, int]) -> dict[str, int]:
    """Sort the counts by the order of the states in the life of a job. Unknown states come last."""
    known = {state: counts[state] for state in STATES if state in counts}
    return known | {state: counts[state] for state in sorted(counts) if state not in known}


async def _get(backend: Backend, request: Request, path: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await backend.call(request, "GET", path)).json()
    return answer


async def _ask_what_runs(backend: Backend) -> Running:
    """Read the digest from a response header. If the service is down, the page shows that instead of failing."""
    try:
        answer = await backend.client.get("/health")
    except httpx.HTTPError as error:
        return Running(backend.name, "", f"does not answer: {error or type(error).__name__}")
    digest = answer.headers.get("x-alva-digest", "none")
    return Running(backend.name, "" if digest == "none" else digest)
