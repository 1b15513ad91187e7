"""Calling the region's own services from a resource handler, and AWS's words for a handler that failed."""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

from ministack import app as ministack_app


class HandlerFailed(Exception):
    """A resource handler's failure, in the form in which CloudFormation shows it.

    `code` is one of CloudFormation's handler error codes (AlreadyExists, InvalidRequest, NotFound, NotStabilized ...):
    CloudFormation CLI User Guide, "Handler error codes".
    """

    def __init__(self, message: str, code: str = "GeneralServiceException") -> None:
        super().__init__(
            f'Resource handler returned message: "{message}" (RequestToken: {uuid.uuid4()}, HandlerErrorCode: {code})'
        )
        self.code = code


_HANDLER_CODES = {
    "ResourceExistsException": "AlreadyExists",
    "ResourceNotFoundException": "NotFound",
    "NotFoundException": "NotFound",
    "DuplicateRecordException": "AlreadyExists",
    "InvalidParameterException": "InvalidRequest",
    "InvalidRequestException": "InvalidRequest",
}


async def call_query(service: str, action: str, parameters: dict[str, str]) -> ElementTree.Element:
    """Call an operation of a service with the query protocol in process; the answer without its XML namespaces.

    Raises HandlerFailed with the service's message.
    """
    status, _, body = await ministack_app.SERVICE_HANDLERS[service](
        "POST",
        "/",
        {"content-type": "application/x-www-form-urlencoded"},
        urlencode({"Action": action, **parameters}).encode(),
        {},
    )
    answer = ElementTree.fromstring(body)  # noqa: S314 - this process wrote it
    for element in answer.iter():
        element.tag = element.tag.rpartition("}")[2]
    if status >= 400:
        code, message = answer.findtext(".//Code", ""), answer.findtext(".//Message", "")
        raise HandlerFailed(
            f"{message} (Service: {service}, Status Code: {status}, Error Code: {code})",
            "AlreadyExists" if "Exists" in code else "NotFound" if "NoSuch" in code else "GeneralServiceException",
        )
    return answer


async def call_json(service: str, target: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Call an operation of a JSON service in process, such as ("secretsmanager", "secretsmanager.CreateSecret").

    Raises HandlerFailed with the service's message.
    """
    status, _, body = await ministack_app.SERVICE_HANDLERS[service](
        "POST",
        "/",
        {"x-amz-target": target, "content-type": "application/x-amz-json-1.1"},
        json.dumps(parameters).encode(),
        {},
    )
    answer: dict[str, Any] = json.loads(body or b"{}")
    if status >= 400:
        code = str(answer.get("__type", "")).rpartition("#")[2]
        message = answer.get("message") or answer.get("Message") or code
        raise HandlerFailed(
            f"{message} (Service: {service}, Status Code: {status}, Error Code: {code})",
            _HANDLER_CODES.get(code, "GeneralServiceException"),
        )
    return answer
