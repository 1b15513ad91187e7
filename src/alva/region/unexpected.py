"""Answers every request in AWS's format, also when a handler raises an unexpected exception."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from alva.region import json_protocol, query_protocol
from alva.region.aws_error import AwsError

Response = tuple[int, dict[str, str], bytes]
Handler = Callable[[str, str, dict[str, str], bytes, dict[str, Any]], Awaitable[Response]]

logger = logging.getLogger("alva.region")

CODE = "InternalFailure"
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html"""


def answer_exceptions(handlers: dict[str, Handler]) -> None:
    """Make every handler log an exception's traceback and answer with InternalFailure (500)."""
    for service, handler in handlers.items():
        handlers[service] = _answering(service, handler)


def _answering(service: str, handler: Handler) -> Handler:
    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        try:
            return await handler(method, path, headers, body, query_params)
        except Exception as error:
            logger.exception("cannot answer a request of %s", service)
            text = f"the local region failed: {type(error).__name__}: {error}"
            return error_response(service, headers, AwsError(CODE, text, 500))

    return handle


def error_response(service: str, headers: Mapping[str, str], error: AwsError) -> Response:
    """The response for an error, in the protocol of the request."""
    if "x-amz-target" in headers or "json" in headers.get("content-type", ""):
        return json_protocol.refuse(error)
    request_id = str(uuid.uuid4())
    text = f"<Code>{error.code}</Code><Message>{query_protocol.text(error.message)}</Message>"
    if service == "s3":
        body = f"<Error>{text}<RequestId>{request_id}</RequestId></Error>"
    elif service == "ec2":
        body = f"<Response><Errors><Error>{text}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    else:
        kind = "Receiver" if error.status >= 500 else "Sender"
        body = (
            f"<ErrorResponse><Error><Type>{kind}</Type>{text}</Error><RequestId>{request_id}</RequestId>"
            "</ErrorResponse>"
        )
    return error.status, {"Content-Type": "text/xml", "x-amzn-RequestId": request_id}, body.encode()
