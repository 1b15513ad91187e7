"""Answers every request in AWS's format, also when a handler raises an unexpected exception or writes unreadable XML.

MiniStack's IAM, EC2, SNS and CloudWatch do not escape the texts of records. One `&` in a description would make every
list with that record unreadable.
"""

from __future__ import annotations

import functools
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from xml.etree import ElementTree

from botocore.model import ListShape, MapShape, StructureShape

from alva.region import json_protocol, query_protocol
from alva.region.aws_error import AwsError
from alva.region.control_plane import MODELS

Response = tuple[int, dict[str, str], bytes]
Handler = Callable[[str, str, dict[str, str], bytes, dict[str, Any]], Awaitable[Response]]

logger = logging.getLogger("alva.region")

_OF_EVERY_SERVICE = frozenset({
    "Code", "ErrorResponse", "Error", "Errors", "Message", "RequestID", "RequestId", "Resource", "Response",
    "ResponseMetadata", "Type", "entry", "item", "key", "member", "requestId", "return", "value", "xml",
})  # fmt: skip
_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9A-Fa-f]+);)")
_TAG = re.compile(r"<(?:[/?]?([A-Za-z][\w.-]*)(?:\s[^<>]*|/|\?)?>)?")

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
            status, answer_headers, answer = await handler(method, path, headers, body, query_params)
            return status, answer_headers, answer if service == "s3" else _readable(service, answer)
        except Exception as error:
            logger.exception("cannot answer a request of %s", service)
            text = f"the local region failed: {type(error).__name__}: {error}"
            return error_response(service, headers, AwsError(CODE, text, 500))

    return handle


def _readable(service: str, answer: bytes) -> bytes:
    """The response; if it is invalid XML, with its texts escaped. Only names from AWS's model count as elements."""
    if not isinstance(answer, bytes) or not answer.lstrip().startswith(b"<"):
        return answer
    try:
        ElementTree.fromstring(answer)  # noqa: S314 - this process wrote it
    except ElementTree.ParseError:
        text = query_protocol.NOT_XML.sub("\ufffd", _AMPERSAND.sub("&amp;", answer.decode(errors="replace")))
        names = _element_names(MODELS.get(service, service))
        return _TAG.sub(lambda tag: tag[0] if tag[1] in names else f"&lt;{tag[0][1:]}", text).encode()
    return answer


@functools.cache
def _element_names(service: str) -> frozenset[str]:
    """The names of the elements in a service's answers."""
    model = query_protocol.service_model(service)
    names = set(_OF_EVERY_SERVICE)
    for operation in model.operation_names:
        names |= {f"{operation}Response", f"{operation}Result"}
    for shape in map(model.shape_for, model.shape_names):
        members = {}
        if isinstance(shape, StructureShape):
            members = shape.members
        elif isinstance(shape, ListShape):
            members = {"member": shape.member}
        elif isinstance(shape, MapShape):
            members = {"key": shape.key, "value": shape.value}
        names |= {member.serialization.get("name", name) for name, member in members.items()}
    return frozenset(names)


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
