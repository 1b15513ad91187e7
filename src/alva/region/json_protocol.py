"""AWS's JSON protocol 1.1: reads requests, writes responses and errors.

https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from alva.region.aws_error import AwsError

Json = dict[str, Any]
Response = tuple[int, dict[str, str], bytes]


def read(body: bytes) -> Json:
    """The input of a request. Raises AwsError."""
    try:
        request = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise AwsError("SerializationException", f"Could not read the request: {error}") from error
    if not isinstance(request, dict):
        raise AwsError("SerializationException", "Could not read the request: it is not a JSON object")
    return request


def answer(content: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response."""
    own = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": str(uuid.uuid4())}
    return status, {**own, **(headers or {})}, json.dumps(content).encode()


def refuse(error: AwsError) -> Response:
    """An error response."""
    content = {"__type": error.code, "message": error.message}
    return answer(content, error.status, {"x-amzn-ErrorType": error.code})
