"""Calls of AWS's APIs within the region's process, through the handlers that also serve HTTP.

The region's own services (ecs, elb) answer such calls too, and callers do not depend on MiniStack's records. Requests
are written and answers are read with botocore's models, as by an AWS SDK.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlencode

from botocore.model import OperationModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from alva.region.aws_error import AwsError
from alva.region.constraints import service_model

Json = dict[str, Any]

MODELS = {"monitoring": "cloudwatch", "elasticloadbalancing": "elbv2"}
"""The services with different names in botocore and MiniStack."""


class ServiceError(AwsError):
    """An AWS service refused a call; the text is its code and its message."""

    def __init__(self, service: str, action: str, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message, status)
        self.service = service
        self.action = action

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


async def call(service: str, action: str, request: Mapping[str, Any]) -> Json:
    """Call an action of a service (MiniStack's name), in the account and region of the running request.

    `request` and the answer are those of boto3, except that times of JSON services are numbers, as on the wire.
    Raises ServiceError with the service's own code and message.
    """
    model = service_model(MODELS.get(service, service))
    protocols = model.metadata.get("protocols") or [model.metadata["protocol"]]
    if "json" in protocols:
        return await _call_json(service, action, model.metadata, request)
    return await _call_xml(service, action, model.operation_model(action), request)


async def _call_json(service: str, action: str, metadata: Mapping[str, Any], request: Mapping[str, Any]) -> Json:
    headers = {"x-amz-target": f"{metadata['targetPrefix']}.{action}", "content-type": "application/x-amz-json-1.1"}
    status, _, body = await _handle(service, headers, json.dumps(request).encode())
    answer: Json = json.loads(body) if body else {}
    if status >= 300:
        code = str(answer.get("__type", "UnknownError")).rpartition("#")[2]
        raise ServiceError(service, action, code, str(answer.get("message") or answer.get("Message") or ""), status)
    return answer


async def _call_xml(service: str, action: str, model: OperationModel, request: Mapping[str, Any]) -> Json:
    protocol = model.service_model.metadata["protocol"]
    if protocol not in ("ec2", "rest-xml"):
        protocol = "query"
    sent = create_serializer(protocol, include_validation=False).serialize_to_request(request, model)
    headers, body = {str(name).lower(): str(value) for name, value in sent["headers"].items()}, sent["body"]
    if isinstance(body, dict):
        headers, body = {"content-type": "application/x-www-form-urlencoded"}, urlencode(body).encode()
    path, _, query = sent["url_path"].partition("?")
    members = {**parse_qs(query, keep_blank_values=True), **(sent["query_string"] or {})}
    status, answer_headers, answered = await _handle(service, headers, body, sent["method"], path, members)
    response = {"status_code": status, "headers": answer_headers, "body": answered}
    # Without an output shape, the answer is empty; botocore-stubs state otherwise.
    answer: Json = create_parser(protocol).parse(response, model.output_shape)  # type: ignore[arg-type]
    if status >= 300:
        error = answer.get("Error", {})
        raise ServiceError(service, action, error.get("Code", "UnknownError"), error.get("Message", ""), status)
    return answer


async def _handle(
    service: str,
    headers: dict[str, str],
    body: bytes,
    method: str = "POST",
    path: str = "/",
    query: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[int, dict[str, str], bytes]:
    from ministack import app

    status, answer_headers, answer = await app.SERVICE_HANDLERS[service](method, path, headers, body, dict(query))
    return status, answer_headers, answer if isinstance(answer, bytes) else str(answer).encode()


class ControlPlane:
    """Calls the other services, as one account in one region."""

    def __init__(self, account_id: str, region: str) -> None:
        self.account_id = account_id
        self.region = region

    async def call(self, service: str, action: str, **parameters: object) -> Json:
        """`call` in this account and region."""
        from ministack.core.responses import request_scope

        with request_scope(self.account_id, self.region):
            return await call(service, action, parameters)
