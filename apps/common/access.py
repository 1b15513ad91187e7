"""FastAPI dependencies that find the signed-in user of a request and check their role.

    Signed = Annotated[Principal, Depends(access.signed_in)]      # 401 for a visitor who is not signed in

    Admin = Annotated[Principal, Depends(access.admin)]           # 403 for a user who is not an administrator
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
    """Return the signed-in user, or None. The token is read from `Authorization: Bearer`, else from the access cookie.

    A request with an unsafe method and the cookie must come from this site's pages or an allowed origin. Otherwise it
    is refused with 403.
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
    """Refuse with 403 a request that comes neither from this site's pages nor from an allowed origin."""
    if not is_same_origin(request, getattr(request.app.state, "allowed_origins", ())):
        raise HTTPException(403, "This request does not come from one of our pages.")


async def signed_in(principal: Annotated[Principal | None, Depends(visitor)]) -> Principal:
    """Return the signed-in user, or refuse with 401."""
    if principal is None:
        raise HTTPException(401, "Please sign in.", headers={"WWW-Authenticate": "Bearer"})
    return principal


async def admin(principal: Annotated[Principal, Depends(signed_in)]) -> Principal:
    """Return the signed-in administrator, or refuse with 401 or 403."""
    if not principal.is_admin:
        raise HTTPException(403, "Administrators only.")
    return principal
