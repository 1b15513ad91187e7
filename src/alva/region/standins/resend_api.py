"""The part of Resend's API that the product uses: sending. No mail leaves the machine; all are stored in the mailbox.

https://resend.com/docs/api-reference/emails/send-email and .../errors
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from alva.region.standins.faults import Faults
from alva.region.standins.mailbox import Mail, Mailbox, address_of

HEADERS = {"x-alva-standin": "true"}
MOST_RECIPIENTS = 50

_UNUSABLE_KEYS = ("alva:unset", "invalid")
_NOT_OFFERED = ("attachments", "scheduled_at", "template", "react", "topic_id")

Json = dict[str, Any]


@dataclass(eq=False)
class Refused(Exception):
    """An error response of Resend."""

    status_code: int
    name: str
    message: str

    def response(self) -> Response:
        headers = HEADERS | ({"retry-after": "1"} if self.status_code == 429 else {})
        body = {"statusCode": self.status_code, "name": self.name, "message": self.message}
        return JSONResponse(body, self.status_code, headers=headers)


def application(mailbox: Mailbox, faults: Faults) -> Starlette:
    """The API as an ASGI application."""

    async def send(request: Request) -> Response:
        body = await _read(request, faults)
        mail = _mail_values(body)
        key = request.headers.get("idempotency-key")
        if key is None:
            return JSONResponse({"id": mailbox.add(mail).id}, headers=HEADERS)
        if not 1 <= len(key) <= 256:
            raise Refused(400, "invalid_idempotency_key", "The key must be between 1-256 chars.")
        text = json.dumps(body, sort_keys=True)
        earlier = mailbox.sent_with(key)
        if earlier is None:
            sent = mailbox.add(mail, idempotency_key=key, request=text)
            return JSONResponse({"id": sent.id}, headers=HEADERS)
        if earlier[1] != text:
            raise Refused(
                409, "invalid_idempotent_request", "Same idempotency key used with a different request payload."
            )
        return JSONResponse({"id": earlier[0]}, headers=HEADERS)

    async def send_batch(request: Request) -> Response:
        body = await _read(request, faults)
        if not isinstance(body, list) or not body:
            raise Refused(422, "validation_error", "The request body must be a list of emails.")
        values = [_mail_values(item) for item in body]
        return JSONResponse({"data": [{"id": mailbox.add(value).id} for value in values]}, headers=HEADERS)

    async def retrieve(request: Request) -> Response:
        _authenticate(request)
        mail = mailbox.mail(request.path_params["id"])
        if mail is None:
            raise Refused(404, "not_found", "Email not found")
        return JSONResponse(_retrieved(mail), headers=HEADERS)

    async def unknown(request: Request) -> Response:
        await request.body()
        message = f"The local stand-in does not offer {request.method} {request.url.path}"
        return Refused(404, "not_found", message).response()

    async def refused(request: Request, error: Exception) -> Response:
        del request
        assert isinstance(error, Refused)  # noqa: S101
        return error.response()

    return Starlette(
        routes=[
            Route("/emails", send, methods=["POST"]),
            Route("/emails/batch", send_batch, methods=["POST"]),
            Route("/emails/{id}", retrieve),
            Route("/{path:path}", unknown, methods=["GET", "POST", "DELETE", "PUT", "PATCH"]),
        ],
        exception_handlers={Refused: refused},
    )


async def _read(request: Request, faults: Faults) -> Any:
    # A response before the end of the request's body makes Envoy close the client's connection (RFC 9112, section 9.3).
    await request.body()
    _authenticate(request)
    fault = faults.next("resend")
    match fault.kind if fault else None:
        case "timeout":
            assert fault is not None  # noqa: S101
            await asyncio.sleep(fault.seconds)
            raise Refused(500, "application_error", "Timed out (requested fault).")
        case "429":
            raise Refused(429, "rate_limit_exceeded", "Too many requests (requested fault).")
        case "500":
            raise Refused(500, "application_error", "An unexpected error occurred (requested fault).")
    try:
        return await request.json()
    except ValueError as error:
        raise Refused(400, "validation_error", "The request body is no JSON.") from error


def _authenticate(request: Request) -> None:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or key.strip() in ("", "None"):
        raise Refused(401, "missing_api_key", "Missing API Key")
    if key.strip().startswith(_UNUSABLE_KEYS):
        raise Refused(403, "invalid_api_key", "API key is invalid")


def _mail_values(body: Any) -> Json:
    """The fields of a Mail, from a request."""
    if not isinstance(body, dict):
        raise Refused(422, "validation_error", "An email must be an object.")
    for name in ("from", "to", "subject"):
        if not body.get(name):
            raise Refused(422, "missing_required_field", f"Missing `{name}` field.")
    for name in _NOT_OFFERED:
        if body.get(name):
            raise Refused(422, "validation_error", f"The local stand-in does not offer `{name}`.")
    if not body.get("html") and not body.get("text"):
        raise Refused(422, "missing_required_field", "Missing `html` or `text` field.")
    lists = {name: _mailboxes(body, name) for name in ("to", "cc", "bcc", "reply_to")}
    sender = _mailboxes(body, "from")[0]
    return lists | {
        "sender": sender,
        "subject": str(body["subject"]),
        "html": str(body.get("html") or ""),
        "text": str(body.get("text") or ""),
    }


def _mailboxes(body: Json, name: str) -> tuple[str, ...]:
    given = body.get(name) or ()
    values = (given,) if isinstance(given, str) else tuple(given)
    if len(values) > MOST_RECIPIENTS:
        raise Refused(422, "validation_error", f"The `{name}` field has more than {MOST_RECIPIENTS} addresses.")
    for value in values:
        if not isinstance(value, str) or not re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", address_of(value)):
            raise Refused(
                422,
                "validation_error",
                f"Invalid `{name}` field. The email address needs to follow the `email@example.com` or"
                " `Name <email@example.com>` format.",
            )
    return values


def _retrieved(mail: Mail) -> Json:
    return {
        "object": "email",
        "id": mail.id,
        "to": list(mail.to),
        "from": mail.sender,
        "created_at": mail.created_at,
        "subject": mail.subject,
        "html": mail.html,
        "text": mail.text,
        "bcc": list(mail.bcc),
        "cc": list(mail.cc),
        "reply_to": list(mail.reply_to),
        "last_event": "delivered",
    }
