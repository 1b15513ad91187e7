"""Error pages, and the redirect to the sign-in page."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from common.logs import current_request
from common.origins import SAFE_METHODS, is_same_origin, own_origin
from common.pages import Pages
from common.site.backends import Refused, Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """The texts of an error page."""

    status: int
    heading: str
    sentence: str


NOT_FOUND = Problem(404, "This page does not exist", "The address may be mistyped, or what was here is gone.")
FORBIDDEN = Problem(403, "This is not open to you", "You are signed in, but this page is for others.")
OTHER_SITE = Problem(
    403,
    "This form came from elsewhere",
    "Your browser says that it was not sent from one of our pages. Nothing was changed.",
)
BAD_REQUEST = Problem(400, "We cannot read this request", "Something in the form or the address cannot be read.")
TOO_LONG = Problem(413, "That is more than we can take", "Please send a shorter text. Nothing was changed.")
TOO_MANY = Problem(429, "Too many tries", "Please wait a few minutes, then try again. Nothing was changed.")
UNAVAILABLE = Problem(
    503, "We cannot do this right now", "A part of Alva does not answer. Please try again in a minute."
)
BROKEN = Problem(
    500, "Something went wrong on our side", "The error is logged under the reference below. Trying again may work."
)
SIGN_IN_UNCHECKED = Problem(
    503,
    "We cannot check your sign-in",
    "You may still be signed in, but a part of Alva does not accept it right now. Please try again in a minute.",
)
_BY_STATUS = {403: FORBIDDEN, 404: NOT_FOUND, 405: NOT_FOUND, 413: TOO_LONG, 429: TOO_MANY}


def sign_in_redirect(request: Request, public_auth_url: str) -> RedirectResponse:
    """Redirect the browser to auth, which renews the sign-in and redirects back, or redirects to the sign-in page.

    A page cannot renew the sign-in itself, because only auth's paths get the refresh cookie. The status 307 keeps the
    method and body of a form. If auth has its own host, the redirect includes this host's origin.
    """
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if not public_auth_url.startswith("/"):
        here = (own_origin(request) or "") + here
    status = 303 if request.method in SAFE_METHODS else 307
    return RedirectResponse(f"{public_auth_url}/refresh?next={quote(here, safe='/')}", status_code=status)


def install(app: FastAPI, pages: Pages, public_auth_url: str) -> None:
    """Add the handlers that answer errors with a page."""

    def show(request: Request, problem: Problem, retry_after: str = "") -> Response:
        context = current_request.get()
        response = pages.render(
            request,
            "problem.html",
            status_code=problem.status,
            problem=problem,
            reference=context.request_id if context and problem.status >= 500 else "",
        )
        if retry_after:
            response.headers["Retry-After"] = retry_after
        return response

    async def on_http_exception(request: Request, error: Any) -> Response:
        if error.status_code == 401:
            return sign_in_redirect(request, public_auth_url)
        if error.status_code == 403 and request.method not in SAFE_METHODS and not is_same_origin(request):
            return show(request, OTHER_SITE)
        return show(request, _BY_STATUS.get(error.status_code, BAD_REQUEST if error.status_code < 500 else BROKEN))

    async def on_refused(request: Request, error: Any) -> Response:
        log.warning("%s", error)
        if error.status == 401:
            # This service accepted the token, so a renewal would redirect in a loop.
            return show(request, SIGN_IN_UNCHECKED)
        return show(request, _BY_STATUS.get(error.status, BAD_REQUEST), error.retry_after)

    async def on_unavailable(request: Request, error: Exception) -> Response:
        log.error("%s", error or type(error).__name__)
        return show(request, UNAVAILABLE, retry_after="5")

    async def on_bad_request(request: Request, error: Any) -> Response:
        is_in_path = any(entry["loc"][0] == "path" for entry in error.errors())
        return show(request, NOT_FOUND if is_in_path else BAD_REQUEST)

    async def on_unexpected(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
        return show(request, BROKEN)

    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_bad_request)
    app.add_exception_handler(Refused, on_refused)
    app.add_exception_handler(Unavailable, on_unavailable)
    app.add_exception_handler(httpx.HTTPError, on_unavailable)
    app.add_exception_handler(Exception, on_unexpected)
