"""Calls of AWS's APIs within the region's process, through the handlers that also serve HTTP.

The region's own services (ecs, elb) answer such calls too, and callers do not depend on MiniStack's records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

from alva.region.aws_error import AwsError
from alva.region.query_protocol import read_error, read_xml

Json = dict[str, Any]

_TARGETS = {
    "acm": "CertificateManager",
    "application-autoscaling": "AnyScaleFrontendService",
    "budgets": "AWSBudgetServiceGateway",
    "ecr": "AmazonEC2ContainerRegistry_V20150921",
    "ecs": "AmazonEC2ContainerServiceV20141113",
    "logs": "Logs_20140328",
    "secretsmanager": "secretsmanager",
    "servicediscovery": "Route53AutoNaming_v20170314",
    "ssm": "AmazonSSM",
}


class ServiceError(AwsError):
    """An AWS service refused a call; the text is its code and its message."""

    def __init__(self, service: str, action: str, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message, status)
        self.service = service
        self.action = action

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


async def call_json(service: str, action: str, request: Mapping[str, Any]) -> Json:
    """Call an action of a service with a JSON protocol, in the account and region of the running request.

    Raises ServiceError with the service's own code and message.
    """
    headers = {"x-amz-target": f"{_TARGETS[service]}.{action}", "content-type": "application/x-amz-json-1.1"}
    status, body = await _handle(service, headers, json.dumps(request).encode())
    answer: Json = json.loads(body) if body else {}
    if status >= 300:
        code = str(answer.get("__type", "UnknownError")).rpartition("#")[2]
        raise ServiceError(service, action, code, str(answer.get("message") or answer.get("Message") or ""), status)
    return answer


async def call_query(service: str, action: str, form: Mapping[str, str]) -> ElementTree.Element:
    """As `call_json`, for a service with the query protocol; returns the XML without its namespaces."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    status, body = await _handle(service, headers, urlencode({"Action": action, **form}).encode())
    if status >= 300:
        raise ServiceError(service, action, *read_error(body), status)
    return read_xml(body)


async def _handle(service: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    from ministack import app

    status, _, answer = await app.SERVICE_HANDLERS[service]("POST", "/", headers, body, {})
    return status, answer if isinstance(answer, bytes) else str(answer).encode()


class ControlPlane:
    """Calls the other services, as one account in one region."""

    def __init__(self, account_id: str, region: str) -> None:
        self.account_id = account_id
        self.region = region

    async def call(self, service: str, action: str, **parameters: object) -> Json:
        """`call_json` in this account and region."""
        from ministack.core.responses import request_scope

        with request_scope(self.account_id, self.region):
            return await call_json(service, action, parameters)

    async def query(self, service: str, action: str, **parameters: str) -> ElementTree.Element:
        """`call_query` in this account and region; two underscores in a parameter's name mean a dot."""
        from ministack.core.responses import request_scope

        form = {name.replace("__", "."): value for name, value in parameters.items()}
        with request_scope(self.account_id, self.region):
            return await call_query(service, action, form)
