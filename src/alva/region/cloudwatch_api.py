"""CloudWatch's API over HTTP: MiniStack answers JSON, the query protocol is translated, CBOR is refused.

MiniStack writes some members of its answers only in JSON, and reads some of a request only there.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/Welcome.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from alva.region import query_protocol
from alva.region.aws_error import AwsError

if TYPE_CHECKING:
    from alva.region.unexpected import Handler, Response

CODE = "ValidationError"
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CommonErrors.html"""


def install(handlers: dict[str, Handler]) -> None:
    """Translate the requests of the query protocol before MiniStack's handler."""
    theirs = handlers["monitoring"]
    model = query_protocol.service_model("cloudwatch")

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        if "cbor" in headers.get("smithy-protocol", "") + headers.get("content-type", ""):
            return _refuse_cbor()
        form = query_protocol.read_form(body, query_params) if "x-amz-target" not in headers else {}
        action = form.get("Action", "")
        if action not in model.operation_names:
            return await theirs(method, path, headers, body, query_params)
        try:
            request = json.dumps(query_protocol.parse(model, action, form)).encode()
        except query_protocol.ConstraintViolated as error:
            return query_protocol.refuse(model, AwsError(CODE, str(error)))
        target = {"x-amz-target": f"{model.metadata['targetPrefix']}.{action}"}
        status, _, answer = await theirs(method, path, target, request, {})
        content = json.loads(answer or b"{}")
        if status >= 400:
            return query_protocol.refuse(model, AwsError(content["__type"], content["message"], status))
        return query_protocol.answer(model, action, content)

    handlers["monitoring"] = handle


def _refuse_cbor() -> Response:
    """The refusal of a request in CBOR, in CBOR: https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html"""
    message = "The local region does not honour the protocol smithy-rpc-v2-cbor: use JSON or the query protocol"
    # A map of two members; 0x78 is a text whose length is the next byte (RFC 8949, 3.1).
    texts = (each.encode() for each in ("__type", "UnsupportedProtocol", "message", message))
    body = b"\xa2" + b"".join(b"\x78" + bytes([len(each)]) + each for each in texts)
    return 415, {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}, body
