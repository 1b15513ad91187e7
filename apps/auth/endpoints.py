"""Auth's HTTP endpoints."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from auth.credentials import ACCESS_LIFETIME, LINK_LIFETIME, SESSION_LIFETIME
from auth.mail import Mailer
from auth.schemas import (
    AuditPage,
    AuditView,
    Handover,
    HandoverBody,
    InvitationBody,
    LinkBody,
    LoginBody,
    Message,
    PasswordBody,
    RegisterBody,
    RoleBody,
    UserPage,
    UserView,
)
from auth.service import AuthService, SignedIn
from auth.settings import AuthSettings
from common import access
from common.origins import SAFE_METHODS, safe_next
from common.refusal import Refusal
from common.tokens import ACCESS_COOKIE, REFRESH_COOKIE, Principal

BROWSER_COOKIE = "alva_browser"
"""Identifies the browser that requested a mail, for the link in it."""
MAIL_ON_ITS_WAY = Message(detail="If this address is yours, a mail with a link is on its way to it.")

Signed = Annotated[Principal, Depends(access.signed_in)]
Visitor = Annotated[Principal | None, Depends(access.visitor)]
NextPath = Annotated[str | None, Query(alias="next", max_length=500)]
LinkToken = Annotated[str, Query(max_length=1000)]
PageSize = Annotated[int, Query(ge=1, le=200)]
Offset = Annotated[int, Query(ge=0, le=1_000_000)]


def _service(request: Request) -> AuthService:
    service: AuthService = request.app.state.service
    return service


def _mailer(request: Request) -> Mailer:
    mailer: Mailer = request.app.state.mailer
    return mailer


def _refuse_foreign_pages(request: Request) -> None:
    """Check the origin of unsafe requests. Browsers send it; calls from other services have none."""
    if request.method not in SAFE_METHODS and "origin" in request.headers:
        access.require_same_origin(request)


async def _administrator(signed: Signed, service: Annotated[AuthService, Depends(_service)]) -> Principal:
    """Return the administrator. The role is also read from the database, because it can change before the token
    expires.
    """
    user = await service.find_user(UUID(signed.user_id))
    if not signed.is_admin or user.role != "admin":
        raise Refusal(403, "Administrators only.")
    return signed


Service = Annotated[AuthService, Depends(_service)]
Administrator = Annotated[Principal, Depends(_administrator)]
REFUSALS: dict[int | str, dict[str, Any]] = {status: {"model": Message} for status in (401, 403, 404, 409, 429, 503)}
router = APIRouter(dependencies=[Depends(_refuse_foreign_pages)], responses=REFUSALS)


class _Cookies:
    """Sets and clears the cookies for the request's scheme, the service's path prefix and the cookie domain.

    If each service has its own host, all hosts get the access token and the browser's mark. Only auth's host gets the
    refresh token: docs/decisions/sign-in-across-hosts.md.
    """

    def __init__(self, request: Request) -> None:
        settings: AuthSettings = request.app.state.settings
        self._is_secure = request.url.scheme == "https"
        path, domain = settings.path_prefix or "/", settings.cookie_domain or None
        self._scopes = {ACCESS_COOKIE: ("/", domain), BROWSER_COOKIE: (path, domain), REFRESH_COOKIE: (path, None)}

    def _set(self, response: Response, name: str, value: str, lifetime: timedelta) -> None:
        path, domain = self._scopes[name]
        response.set_cookie(
            name,
            value,
            max_age=int(lifetime.total_seconds()),
            path=path,
            domain=domain,
            httponly=True,
            samesite="lax",
            secure=self._is_secure,
        )

    def set(self, response: Response, signed_in: SignedIn) -> None:
        self._set(response, ACCESS_COOKIE, signed_in.access_token, ACCESS_LIFETIME)
        self._set(response, REFRESH_COOKIE, signed_in.refresh_cookie, SESSION_LIFETIME)
        response.headers["Cache-Control"] = "no-store"

    def mark_browser(self, response: Response) -> str:
        """Set a random value in a cookie that identifies the browser when it opens the link from the mail."""
        browser_token = secrets.token_urlsafe(32)
        self._set(response, BROWSER_COOKIE, browser_token, LINK_LIFETIME)
        return browser_token

    def forget_browser(self, response: Response) -> None:
        self._delete(response, BROWSER_COOKIE)

    def clear(self, response: Response) -> None:
        for name in (ACCESS_COOKIE, REFRESH_COOKIE):
            self._delete(response, name)
        response.headers["Cache-Control"] = "no-store"

    def _delete(self, response: Response, name: str) -> None:
        path, domain = self._scopes[name]
        response.delete_cookie(name, path=path, domain=domain, httponly=True, samesite="lax", secure=self._is_secure)


def _target(request: Request, next_url: str | None, default: str = "/") -> str:
    """Return the requested redirect target if it is an address of this site's pages."""
    return safe_next(next_url, default, request.app.state.allowed_origins)


def _on_site(request: Request, target: str) -> str:
    """Return the full target. A path belongs to the pages, which may have another host."""
    settings: AuthSettings = request.app.state.settings
    return settings.site_url + target if target.startswith("/") else target


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


@router.post("/register", status_code=202)
async def register(
    body: RegisterBody, request: Request, response: Response, tasks: BackgroundTasks, service: Service
) -> Message:
    """Register. The response is always the same. A mail with a link follows."""
    browser_token = _Cookies(request).mark_browser(response)
    mail = await service.register(body.email, body.password, body.next, browser_token, _client(request))
    tasks.add_task(_mailer(request).send, mail)
    return MAIL_ON_ITS_WAY


@router.post("/link", status_code=202)
async def ask_for_link(
    body: LinkBody, request: Request, response: Response, tasks: BackgroundTasks, service: Service
) -> Message:
    """Request a sign-in link. The response is always the same. A mail follows if the address has an account."""
    browser_token = _Cookies(request).mark_browser(response)
    mail = await service.ask_for_link(body.email, body.next, browser_token, _client(request))
    if mail is not None:
        tasks.add_task(_mailer(request).send, mail)
    return MAIL_ON_ITS_WAY


@router.get("/verify", status_code=303, response_class=RedirectResponse)
async def look_at_link(request: Request, token: LinkToken, service: Service) -> Response:
    """Open a mail's link. The browser that requested it is signed in; another browser must confirm first.

    Mail scanners also open links. A GET from another browser therefore does not use the link.
    """
    signed_in = await service.open_link(
        token, request.cookies.get(BROWSER_COOKIE), _client(request), only_same_browser=True
    )
    if signed_in is None and await service.is_link_open(token):
        confirm = _on_site(request, f"/signin/confirm?token={quote(token)}")
        return RedirectResponse(confirm, 303, headers={"Cache-Control": "no-store"})
    return _after_link(request, signed_in)


@router.post("/verify", status_code=303, response_class=RedirectResponse)
async def open_link(request: Request, token: LinkToken, service: Service) -> Response:
    """Confirm a mail's link: sign in and redirect to the product. An invalid link redirects to the sign-in page."""
    access.require_same_origin(request)
    return _after_link(request, await service.open_link(token, request.cookies.get(BROWSER_COOKIE), _client(request)))


def _after_link(request: Request, signed_in: SignedIn | None) -> Response:
    if signed_in is None:
        return RedirectResponse(_on_site(request, "/signin?problem=link"), status_code=303)
    target = _on_site(request, _target(request, signed_in.next, "/onboarding" if signed_in.is_new else "/plans"))
    response = RedirectResponse(target, status_code=303, headers={"Referrer-Policy": "no-referrer"})
    cookies = _Cookies(request)
    cookies.set(response, signed_in)
    if BROWSER_COOKIE in request.cookies:
        cookies.forget_browser(response)
    return response


@router.post("/login")
async def log_in(body: LoginBody, request: Request, response: Response, service: Service) -> UserView:
    """Sign in with a password."""
    signed_in = await service.log_in(body.email, body.password, _client(request))
    _Cookies(request).set(response, signed_in)
    return UserView.of(signed_in.user)


@router.post("/login/link")
async def hand_over(body: HandoverBody, request: Request, response: Response, service: Service) -> Handover:
    """Check a password, and return the token with which `/verify` signs this browser in.

    Pages call this. The browser must then request `/verify` itself, because only auth's host gets the refresh token.
    """
    browser_token = _Cookies(request).mark_browser(response)
    token = await service.hand_over(body.email, body.password, body.next, browser_token, _client(request))
    return Handover(token=token)


async def _refresh(request: Request, service: AuthService, next_path: str | None) -> Response:
    cookie = request.cookies.get(REFRESH_COOKIE)
    signed_in = await service.refresh(cookie, _client(request)) if cookie else None
    cookies = _Cookies(request)
    if next_path is None:
        if signed_in is None:
            answer = JSONResponse({"detail": "Please sign in."}, status_code=401)
            cookies.clear(answer)
            return answer
        response = JSONResponse(UserView.of(signed_in.user).model_dump(mode="json"))
        cookies.set(response, signed_in)
        return response
    target = _target(request, next_path)
    if signed_in is None:
        redirect = RedirectResponse(_sign_in_page(request, target), status_code=303)
        cookies.clear(redirect)
        return redirect
    # 307 sends a form again whose access token had expired. Pages get 303.
    status = 303 if request.method in SAFE_METHODS else 307
    redirect = RedirectResponse(_on_site(request, target), status_code=status)
    cookies.set(redirect, signed_in)
    return redirect


_REFRESH_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": UserView},
    303: {"description": "With `next`: redirect to it, or to the sign-in page"},
    307: {"description": "With `next`, for a form: redirect to it with the form"},
}


@router.get("/refresh", responses=_REFRESH_ANSWERS, response_class=JSONResponse)
async def refresh_page(request: Request, service: Service, next_path: NextPath = None) -> Response:
    """Renew the tokens for a page whose access token expired."""
    return await _refresh(request, service, next_path)


@router.post("/refresh", responses=_REFRESH_ANSWERS, response_class=JSONResponse)
async def refresh(request: Request, service: Service, next_path: NextPath = None) -> Response:
    """Renew the tokens. The refresh token in the cookie is used up."""
    if request.cookies.get(REFRESH_COOKIE):
        access.require_same_origin(request)
    return await _refresh(request, service, next_path)


def _sign_in_page(request: Request, target: str) -> str:
    return _on_site(request, f"/signin?next={quote(target, safe='/')}")


def _signed_out(request: Request, next_path: str | None) -> Response:
    target = _on_site(request, _target(request, next_path))
    response = Response(status_code=204) if next_path is None else RedirectResponse(target, 303)
    _Cookies(request).clear(response)
    return response


_SIGN_OUT_ANSWERS: dict[int | str, dict[str, Any]] = {303: {"description": "With `next`: redirect to it"}}


@router.post("/logout", status_code=204, responses=_SIGN_OUT_ANSWERS, response_class=Response)
async def log_out(request: Request, visitor: Visitor, service: Service, next_path: NextPath = None) -> Response:
    """Sign out: end this session."""
    cookie = request.cookies.get(REFRESH_COOKIE)
    if cookie:
        access.require_same_origin(request)
    await service.log_out(cookie, UUID(visitor.session_id) if visitor else None)
    return _signed_out(request, next_path)


@router.post("/logout-all", status_code=204, responses=_SIGN_OUT_ANSWERS, response_class=Response)
async def log_out_everywhere(
    request: Request, visitor: Visitor, service: Service, next_path: NextPath = None
) -> Response:
    """End all sessions of this user. The access token or, if it expired, the refresh token identifies the user."""
    cookie = request.cookies.get(REFRESH_COOKIE)
    if cookie:
        access.require_same_origin(request)
    if await service.log_out_everywhere(cookie, UUID(visitor.user_id) if visitor else None, _client(request)):
        return _signed_out(request, next_path)
    if next_path is None:
        raise Refusal(401, "Please sign in.")
    return RedirectResponse(_sign_in_page(request, _target(request, next_path)), status_code=303)


@router.get("/me")
async def me(signed: Signed, service: Service) -> UserView:
    """Return the signed-in user."""
    return UserView.of(await service.find_user(UUID(signed.user_id)))


@router.put("/password", status_code=204)
async def set_password(
    body: PasswordBody, request: Request, signed: Signed, tasks: BackgroundTasks, service: Service
) -> None:
    """Set or change the password, and end every other session.

    Requires the current password, or a sign-in within the last 15 minutes.
    """
    user_id, session_id = UUID(signed.user_id), UUID(signed.session_id)
    mail = await service.set_password(user_id, session_id, body.password, body.current_password, _client(request))
    tasks.add_task(_mailer(request).send, mail)


@router.get("/users")
async def list_users(
    _: Administrator,
    service: Service,
    search: Annotated[str, Query(max_length=200)] = "",
    limit: PageSize = 50,
    offset: Offset = 0,
) -> UserPage:
    """List the users, newest first."""
    users, total = await service.list_users(search, limit, offset)
    return UserPage(items=[UserView.of(user) for user in users], total=total)


@router.patch("/users/{user_id}")
async def change_role(
    user_id: UUID, body: RoleBody, request: Request, administrator: Administrator, service: Service
) -> UserView:
    """Change a user's role and end their sessions."""
    return UserView.of(await service.change_role(user_id, body.role, administrator.email, _client(request)))


@router.post("/invitations", status_code=202)
async def invite(
    body: InvitationBody, request: Request, administrator: Administrator, tasks: BackgroundTasks, service: Service
) -> Message:
    """Send an invitation by mail."""
    mail = await service.invite(body.email, body.role, administrator.email, _client(request))
    tasks.add_task(_mailer(request).send, mail)
    return Message(detail=f"An invitation is on its way to {body.email}.")


@router.get("/audit")
async def list_audit(_: Administrator, service: Service, limit: PageSize = 50, offset: Offset = 0) -> AuditPage:
    """List the audit log, newest first."""
    entries, total = await service.list_audit(limit, offset)
    return AuditPage(items=[AuditView.model_validate(entry) for entry in entries], total=total)


@router.get("/.well-known/jwks.json")
async def publish_keys(request: Request, response: Response) -> dict[str, list[dict[str, str]]]:
    """Return the public key for the verification of access tokens (RFC 7517)."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return {"keys": [request.app.state.jwk]}
