"""An answer in AWS's form for every request, also where the code that answers it raises something unexpected."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from xml.sax.saxutils import escape

Response = tuple[int, dict[str, str], bytes]
Handler = Callable[[str, str, dict[str, str], bytes, dict[str, Any]], Awaitable[Response]]

logger = logging.getLogger("alva.region")

CODE = "InternalFailure"
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html"""

# What XML 1.0 cannot hold, not even escaped: https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def answer_always(handlers: dict[str, Handler]) -> None:
    """Have every handler answer with InternalFailure (500), and the log hold the traceback, where it raises."""
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
            return internal_failure(service, headers, f"the local region failed: {type(error).__name__}: {error}")

    return handle


def internal_failure(service: str, headers: Mapping[str, str], message: str) -> Response:
    """The answer of a service that failed, in the protocol of the request."""
    request_id = str(uuid.uuid4())
    if "x-amz-target" in headers or "json" in headers.get("content-type", ""):
        content = {"__type": CODE, "message": message}
        answer_headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": CODE}
        return 500, {**answer_headers, "x-amzn-RequestId": request_id}, json.dumps(content).encode()
    text = escape(_NOT_XML.sub("\ufffd", message))
    error = f"<Code>{CODE}</Code><Message>{text}</Message>"
    if service == "s3":
        body = f"<Error>{error}<RequestId>{request_id}</RequestId></Error>"
    else:
        error = f"<Error><Type>Receiver</Type>{error}</Error>"
        body = f"<ErrorResponse>{error}<RequestId>{request_id}</RequestId></ErrorResponse>"
    return 500, {"Content-Type": "text/xml", "x-amzn-RequestId": request_id}, body.encode()
