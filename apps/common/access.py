"""Who may: FastAPI dependencies that find the signed-in user of a request.

    Signed = Annotated[Principal, Depends(access.signed_in)]      # 401 without
    Admin = Annotated[Principal, Depends(access.admin)]           # 403 where not an administrator
    Visitor = Annotated[Principal | None, Depends(access.visitor)]

The verifier is `app.state.verifier` (common.tokens); `app.state.allowed_origins` are the CORS origins.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, Request

from common.logs import current_request
from common.origins import SAFE_METHODS, is_same_origin
from common.tokens import ACCESS_COOKIE, Principal, TokenError, TokenVerifier


async def visitor(request: Request) -> Principal | None:
    """The signed-in user, or None: from `Authorization: Bearer`, else from the access cookie.

    With the cookie an unsafe method must come from our own pages or an allowed origin: 403 otherwise.
    """
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    token = credentials.strip() if scheme.lower() == "bearer" else ""
    by_cookie = not token
    if by_cookie:
        token = request.cookies.get(ACCESS_COOKIE, "")
    if not token:
        return None
    verifier: TokenVerifier = request.app.state.verifier
    try:
        principal = await verifier.verify(token)
    except TokenError:
        return None
    if by_cookie and request.method not in SAFE_METHODS:
        require_same_origin(request)
    context = current_request.get()
    if context is not None:
        context.user = principal.user_id
    return principal


def require_same_origin(request: Request) -> None:
    """403 unless the request comes from our own pages or an allowed origin."""
    if not is_same_origin(request, getattr(request.app.state, "allowed_origins", ())):
        raise HTTPException(403, "This request does not come from one of our pages.")


async def signed_in(principal: Annotated[Principal | None, Depends(visitor)]) -> Principal:
    """The signed-in user; 401 without one."""
    if principal is None:
        raise HTTPException(401, "Please sign in.", headers={"WWW-Authenticate": "Bearer"})
    return principal


async def admin(principal: Annotated[Principal, Depends(signed_in)]) -> Principal:
    """The signed-in administrator; 401 or 403 otherwise."""
    if not principal.is_admin:
        raise HTTPException(403, "Administrators only.")
    return principal
