"""The first page, sign-up, sign-in and the account."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import httpx
from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from common.origins import normalise_origin, own_origin, safe_next
from common.pages import Pages as PageRenderer
from common.site.backends import Backend, Refused
from common.site.parts import Auth, Pages, SignedIn, Visitor

router = APIRouter()

Field = Annotated[str, Form()]

_WRONG_PAIR = "This e-mail address and this password do not fit together."
_TOO_MANY = "Too many tries. Please wait a few minutes, then try again."
_NOT_AN_ADDRESS = "Please enter an e-mail address, such as name@example.com."
_DONE_NOTICE = "Your password is set. Every other device is signed out."
_LONGEST_NEXT = 500
"""The limit of auth."""
_BAD_LINK = "This link has been used already, or it is too old. We can send you another one."


@router.get("/")
async def show_landing(request: Request, pages: Pages) -> Response:
    """Show the first page."""
    return pages.render(request, "landing.html", page="landing")


@router.get("/signup")
async def show_signup(request: Request, pages: Pages) -> Response:
    """Show the sign-up form."""
    return _signup_page(request, pages, email="", problems={})


@router.post("/signup")
async def sign_up(
    request: Request, pages: Pages, auth: Auth, email: Field = "", password: Annotated[str, Form()] = ""
) -> Response:
    """Register. Auth sends a link by mail. Its response does not reveal whether the address has an account."""
    body = {"email": email.strip()} | ({"password": password} if password else {})
    try:
        answer = await auth.call(request, "POST", "/auth/register", json=body)
    except Refused as refusal:
        return _signup_page(request, pages, email=email, problems=_problems(refusal), status_code=refusal.status)
    # Auth sets a cookie: if this browser opens the mail's link, it is signed in and the password takes effect.
    return _with_cookies_of(answer, RedirectResponse("/check-mail", status_code=303))


@router.get("/check-mail")
async def show_check_mail(request: Request, pages: Pages) -> Response:
    """Tell the user to open the link in the mail."""
    return pages.render(request, "check_mail.html", page="signup")


@router.get("/signin")
async def show_signin(
    request: Request,
    pages: Pages,
    visitor: Visitor,
    next: str = "",  # noqa: A002 - the query's name
    problem: str = "",
) -> Response:
    """Show the sign-in form. A signed-in visitor is redirected."""
    if visitor is not None:
        own = own_origin(request)
        return RedirectResponse(safe_next(next, "/plans", (own,) if own else ()), status_code=303)
    problems = {"form": _BAD_LINK} if problem == "link" else {}
    return _signin_page(request, pages, email="", next_url=_asked_next(request, next), problems=problems)


@router.get("/signin/confirm")
async def show_confirmation(request: Request, pages: Pages, token: str = "") -> Response:
    """Ask for confirmation of a mail's link that another browser requested.

    The browser sends the form to auth, which recognises a browser by its cookies.
    """
    return pages.render(request, "confirm.html", page="signin", verify_url=_verify_url(request, token))


@router.post("/signin")
async def sign_in(
    request: Request,
    pages: Pages,
    auth: Auth,
    email: Field = "",
    password: Field = "",
    next: Field = "",  # noqa: A002 - the field's name
    by: Annotated[str, Form(alias="with")] = "password",
) -> Response:
    """Sign in with a password, or request a link by mail.

    With a password, the browser is redirected to auth, which signs it in and redirects again. Only auth's host and path
    get the refresh token, so it never passes through web.
    """
    next_url = _asked_next(request, next)
    body = {"email": email.strip()} | ({"next": next_url} if next_url else {})
    try:
        if by == "link" or not password:
            answer = await auth.call(request, "POST", "/auth/link", json=body)
            return _with_cookies_of(answer, RedirectResponse("/check-mail", status_code=303))
        answer = await auth.call(request, "POST", "/auth/login/link", json=body | {"password": password})
    except Refused as refusal:
        problems = _problems(refusal)
        return _signin_page(
            request, pages, email=email, next_url=next_url, problems=problems, status_code=refusal.status
        )
    verify_url = _verify_url(request, answer.json()["token"])
    return _with_cookies_of(answer, RedirectResponse(verify_url, status_code=303))


@router.get("/account")
async def show_account(request: Request, pages: Pages, auth: Auth, _: SignedIn, done: str = "") -> Response:
    """Show the account: address, password and sign-out everywhere."""
    return await _account_page(request, pages, auth, notice=_DONE_NOTICE if done == "password" else "")


@router.post("/account/password")
async def set_password(
    request: Request, pages: Pages, auth: Auth, _: SignedIn, password: Field = "", current_password: Field = ""
) -> Response:
    """Set or change the password."""
    body = {"password": password} | ({"current_password": current_password} if current_password else {})
    try:
        await auth.call(request, "PUT", "/auth/password", json=body)
    except Refused as refusal:
        if refusal.status not in {403, 422, 429}:
            raise
        return await _account_page(request, pages, auth, problems=_problems(refusal))
    return RedirectResponse("/account?done=password", status_code=303)


@router.get("/account/password")
async def return_to_account() -> Response:
    """Redirect a browser that had to sign in again before it sent the form."""
    return RedirectResponse("/account", status_code=303)


async def _account_page(
    request: Request, pages: PageRenderer, auth: Backend, *, notice: str = "", problems: dict[str, str] | None = None
) -> Response:
    user = (await auth.call(request, "GET", "/auth/me")).json()
    return pages.render(
        request,
        "account.html",
        status_code=422 if problems else 200,
        page="account",
        user=user,
        notice=notice,
        problems=problems or {},
    )


def _asked_next(request: Request, next_url: str) -> str:
    """Return the requested redirect target. Auth validates it, because it has the list of hosts with pages."""
    has_hosts = bool(request.app.state.settings.public_origins)
    origin = normalise_origin(next_url) if has_hosts else None
    return safe_next(next_url, "", (origin,) if origin else ()) if len(next_url) <= _LONGEST_NEXT else ""


def _verify_url(request: Request, token: str) -> str:
    return f"{request.app.state.settings.next_public_auth_url}/verify?{urlencode({'token': token})}"


def _with_cookies_of(answer: httpx.Response, response: Response) -> Response:
    """Copy the cookies of auth's response, among them the one that identifies the browser."""
    for cookie in answer.headers.get_list("set-cookie"):
        response.headers.append("set-cookie", cookie)
    return response


def _signup_page(
    request: Request, pages: PageRenderer, *, email: str, problems: dict[str, str], status_code: int = 200
) -> Response:
    return pages.render(request, "signup.html", status_code=status_code, page="signup", email=email, problems=problems)


def _signin_page(
    request: Request,
    pages: PageRenderer,
    *,
    email: str,
    next_url: str,
    problems: dict[str, str],
    status_code: int = 200,
) -> Response:
    return pages.render(
        request,
        "signin.html",
        status_code=status_code,
        page="signin",
        email=email,
        next=next_url,
        problems=problems,
    )


def _problems(refusal: Refused) -> dict[str, str]:
    """Map a refusal to a sentence for each field of the form, or to `form` if it concerns no field."""
    if refusal.status == 401:
        return {"form": _WRONG_PAIR}
    if refusal.status == 429:
        return {"form": _TOO_MANY}
    problems = {name: text for name, text in refusal.fields.items() if name in {"email", "password"}}
    if "email" in problems:
        problems["email"] = _NOT_AN_ADDRESS
    return problems or {"form": refusal.reason or "We cannot read this request. Please try again."}
