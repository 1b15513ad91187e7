"""Calls from ECS to the other services of the region, through their public APIs and without a network in between.

Everything goes through the handlers that also serve HTTP, so that a replaced service (elb, rds) is the one that
answers, and nothing here depends on how MiniStack keeps its records.
"""

from __future__ import annotations

import json
from urllib.parse import urlencode
from xml.etree import ElementTree

from alva.region.ecs.model import Json

_TARGETS = {
    "ecr": "AmazonEC2ContainerRegistry_V20150921",
    "logs": "Logs_20140328",
    "secretsmanager": "secretsmanager",
    "servicediscovery": "Route53AutoNaming_v20170314",
    "ssm": "AmazonSSM",
}


class ServiceError(Exception):
    """Another AWS service refused. `code` is its exception's name."""

    def __init__(self, service: str, action: str, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.service = service
        self.action = action
        self.code = code
        self.message = message


class ControlPlane:
    """The other services, as one account in one region."""

    def __init__(self, account_id: str, region: str) -> None:
        self.account_id = account_id
        self.region = region

    async def call(self, service: str, action: str, **parameters: object) -> Json:
        """Call an action of a JSON service (logs, secretsmanager, ecr, ssm, servicediscovery).

        Raises ServiceError with the service's own code and message.
        """
        headers = {
            "x-amz-target": f"{_TARGETS[service]}.{action}",
            "content-type": "application/x-amz-json-1.1",
        }
        status, body = await self._handle(service, headers, json.dumps(parameters).encode())
        answer: Json = json.loads(body) if body else {}
        if status >= 300:
            code = str(answer.get("__type", "UnknownError")).rpartition("#")[2]
            raise ServiceError(service, action, code, str(answer.get("message") or answer.get("Message") or ""))
        return answer

    async def query(self, service: str, action: str, **parameters: str) -> ElementTree.Element:
        """Call an action of a query-protocol service (ec2, elasticloadbalancing); the XML without its namespaces.

        Raises ServiceError with the service's own code and message.
        """
        headers = {"content-type": "application/x-www-form-urlencoded"}
        form = urlencode({"Action": action, **{name.replace("__", "."): value for name, value in parameters.items()}})
        status, body = await self._handle(service, headers, form.encode())
        root = ElementTree.fromstring(body)  # noqa: S314 - our own process wrote it
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        if status >= 300:
            raise ServiceError(
                service, action, root.findtext(".//Code", "UnknownError"), root.findtext(".//Message", "")
            )
        return root

    async def _handle(self, service: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        from ministack import app
        from ministack.core.responses import request_scope

        with request_scope(self.account_id, self.region):
            status, _, answer = await app.SERVICE_HANDLERS[service]("POST", "/", headers, body, {})
        return status, answer if isinstance(answer, bytes) else str(answer).encode()
