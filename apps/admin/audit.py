"""The audit log: time, actor, action, subject and client address."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from admin.listing import AskedPart
from common.site.parts import Admin, Auth, Pages

router = APIRouter()


@router.get("/audit")
async def show_audit(request: Request, pages: Pages, auth: Auth, _: Admin, part: AskedPart) -> Response:
    """Show the audit log, newest first."""
    found = (await auth.call(request, "GET", f"/auth/audit?{part.query}")).json()
    return pages.render(request, "audit.html", page="audit", entries=found["items"], total=found["total"], part=part)
