"""Users: search, change a role, send an invitation."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from admin.listing import AskedPart, Part
from common.pages import Pages as PageRenderer
from common.site.backends import Backend, Refused
from common.site.parts import Admin, Auth, Pages
from common.tokens import Principal

router = APIRouter(prefix="/users")

ROLES = ("customer", "admin")
_NOTICES = {"role": "The role is changed.", "invited": "The invitation is on its way."}


@router.get("")
async def show_users(
    request: Request, pages: Pages, auth: Auth, me: Admin, part: AskedPart, search: str = "", done: str = ""
) -> Response:
    """Show the users that match the search."""
    return await _page(request, pages, auth, me, part, search=search.strip()[:200], notice=_NOTICES.get(done, ""))


@router.post("/{user_id}/role")
async def change_role(
    request: Request,
    pages: Pages,
    auth: Auth,
    me: Admin,
    user_id: UUID,
    role: Annotated[Literal["customer", "admin"], Form()],
    search: Annotated[str, Form()] = "",
) -> Response:
    """Change a user's role."""
    try:
        await auth.call(request, "PATCH", f"/auth/users/{user_id}", json={"role": role})
    except Refused as refusal:
        if refusal.status not in {400, 409, 422}:
            raise
        problem = refusal.reason or "This role cannot be given."
        return await _page(request, pages, auth, me, Part(1), search=search, problem=problem)
    query = urlencode({"done": "role"} | ({"search": search} if search else {}))
    return RedirectResponse(f"{pages.url('/users')}?{query}", status_code=303)


@router.post("/invitations")
async def invite(
    request: Request,
    pages: Pages,
    auth: Auth,
    me: Admin,
    role: Annotated[Literal["customer", "admin"], Form()],
    email: Annotated[str, Form()] = "",
) -> Response:
    """Send an invitation: a mail with a link that signs in with the given role."""
    try:
        await auth.call(request, "POST", "/auth/invitations", json={"email": email.strip(), "role": role})
    except Refused as refusal:
        if refusal.status not in {400, 409, 422, 429}:
            raise
        problem = refusal.reason or "Please enter an e-mail address, such as name@example.com."
        return await _page(request, pages, auth, me, Part(1), problem=problem, invited=email)
    return RedirectResponse(f"{pages.url('/users')}?done=invited", status_code=303)


@router.get("/invitations")
@router.get("/{user_id}/role")
async def return_to_users(pages: Pages) -> Response:
    """Redirect a browser that had to sign in again before it sent a form."""
    return RedirectResponse(pages.url("/users"), status_code=303)


async def _page(
    request: Request,
    pages: PageRenderer,
    auth: Backend,
    me: Principal,
    part: Part,
    *,
    search: str = "",
    notice: str = "",
    problem: str = "",
    invited: str = "",
) -> Response:
    query = f"{part.query}&{urlencode({'search': search})}" if search else part.query
    found = (await auth.call(request, "GET", f"/auth/users?{query}")).json()
    return pages.render(
        request,
        "users.html",
        status_code=422 if problem else 200,
        page="users",
        users=found["items"],
        total=found["total"],
        part=part,
        search=search,
        roles=ROLES,
        me=me.user_id,
        notice=notice,
        problem=problem,
        invited=invited,
    )
