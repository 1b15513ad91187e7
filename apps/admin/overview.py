"""The first page: how much there is of everything, and which digest each service runs."""

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
    """What one task of a service says that it runs."""

    service: str
    digest: str
    """Empty where it cannot be told; `problem` says why."""
    problem: str = ""


@router.get("/")
async def show_overview(request: Request, pages: Pages, api: Api, auth: Auth, _: Admin) -> Response:
    """Counts, the queue, and what runs."""
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
    """The counts in the order in which a job passes through the states; states that we do not know come last."""
    known = {state: counts[state] for state in STATES if state in counts}
    return known | {state: counts[state] for state in sorted(counts) if state not in known}


async def _get(backend: Backend, request: Request, path: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await backend.call(request, "GET", path)).json()
    return answer


async def _ask_what_runs(backend: Backend) -> Running:
    """Every answer of a service carries its digest; a service that is down is worth showing, not failing for."""
    try:
        answer = await backend.client.get("/health")
    except httpx.HTTPError as error:
        return Running(backend.name, "", f"does not answer: {error or type(error).__name__}")
    digest = answer.headers.get("x-alva-digest", "none")
    return Running(backend.name, "" if digest == "none" else digest)
