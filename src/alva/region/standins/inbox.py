"""The inbox: a web page, JSON for tests, and requests for faults.

GET    /api/messages?to=ADDRESS   {"messages": [...]}, newest first
GET    /api/messages/ID           one of them
DELETE /api/messages              {"deleted": N}
GET    /api/faults                the pending faults of each stand-in
POST   /api/faults                {"api": "openai", "kind": "500", "count": 2, "seconds": 30}
DELETE /api/faults                remove all pending faults
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from alva.region.standins import pages
from alva.region.standins.faults import Fault, Faults
from alva.region.standins.mailbox import Mailbox

_FRAME_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data: https: http:; frame-ancestors 'self'"


def application(mailbox: Mailbox, faults: Faults, problem: str | None = None) -> Starlette:
    """The inbox as an ASGI application. Other host names than this machine's are refused (DNS rebinding).

    The page shows `problem`, the reason why no mail can arrive, if there is one.
    """

    async def list_page(request: Request) -> Response:
        to = request.query_params.get("to") or None
        return _html(pages.mails_page(mailbox.mails(to), to, problem))

    async def message_page(request: Request) -> Response:
        mail = mailbox.mail(request.path_params["id"])
        return _html(pages.mail_page(mail)) if mail else _html(pages.missing_page(), 404)

    async def message_frame(request: Request) -> Response:
        mail = mailbox.mail(request.path_params["id"])
        if mail is None:
            return _html(pages.missing_page(), 404)
        return HTMLResponse(pages.mail_frame(mail), headers={"Content-Security-Policy": _FRAME_POLICY})

    async def delete_from_page(request: Request) -> Response:
        if not _is_same_origin(request):
            return JSONResponse({"error": "cannot delete mails for another site"}, 403)
        mailbox.clear()
        return RedirectResponse("/", 303)

    async def messages(request: Request) -> Response:
        if not _is_same_origin(request):
            return JSONResponse({"error": "cannot answer another site"}, 403)
        if request.method == "DELETE":
            return JSONResponse({"deleted": mailbox.clear()})
        found = mailbox.mails(request.query_params.get("to"))
        return JSONResponse({"messages": [mail.as_json() for mail in found]})

    async def message(request: Request) -> Response:
        mail = mailbox.mail(request.path_params["id"])
        return JSONResponse(mail.as_json()) if mail else JSONResponse({"error": "there is no such mail"}, 404)

    async def waiting_faults(request: Request) -> Response:
        if not _is_same_origin(request):
            return JSONResponse({"error": "cannot answer another site"}, 403)
        if request.method == "DELETE":
            faults.clear()
        elif request.method == "POST":
            try:
                body = await request.json()
                fault = Fault(str(body["kind"]), float(body.get("seconds", Fault.seconds)))
                faults.add(body["api"], fault, int(body.get("count", 1)))
            except (KeyError, TypeError, ValueError) as error:
                return JSONResponse({"error": str(error)}, 400)
        return JSONResponse(faults.waiting())

    return Starlette(
        routes=[
            Route("/", list_page),
            Route("/messages/{id}", message_page),
            Route("/messages/{id}/html", message_frame),
            Route("/delete", delete_from_page, methods=["POST"]),
            Route("/api/messages", messages, methods=["GET", "DELETE"]),
            Route("/api/messages/{id}", message),
            Route("/api/faults", waiting_faults, methods=["GET", "POST", "DELETE"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False)],
    )


def _html(content: str, status_code: int = 200) -> Response:
    headers = {"Content-Security-Policy": pages.CONTENT_SECURITY_POLICY, "Referrer-Policy": "no-referrer"}
    return HTMLResponse(content, status_code, headers=headers)


def _is_same_origin(request: Request) -> bool:
    """Whether the request comes from the inbox's page or from a client that is not a browser, which sends no Origin."""
    origin = request.headers.get("origin")
    return origin is None or origin.partition("//")[2] == request.headers.get("host")
