"""The failure of a resource handler, in AWS's words, and calls of services that raise it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from alva.region import control_plane
from alva.region.control_plane import ServiceError


class HandlerFailed(Exception):
    """The failure of a resource handler, in CloudFormation's format.

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
    "EntityAlreadyExists": "AlreadyExists",
    "DuplicateRecordException": "AlreadyExists",
    "ResourceNotFoundException": "NotFound",
    "ObjectNotFoundException": "NotFound",
    "NotFoundException": "NotFound",
    "NoSuchEntity": "NotFound",
    "InvalidParameterException": "InvalidRequest",
    "InvalidRequestException": "InvalidRequest",
    "ValidationException": "InvalidRequest",
}


async def call(service: str, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """`control_plane.call` that raises HandlerFailed with the service's message."""
    try:
        return await control_plane.call(service, action, request)
    except ServiceError as error:
        raise _failed(error) from error


def _handler_code(code: str) -> str:
    if code.endswith("NotFound"):  # EC2: InvalidGroup.NotFound, NatGatewayNotFound
        return "NotFound"
    return _HANDLER_CODES.get(code, "GeneralServiceException")


def _failed(error: ServiceError) -> HandlerFailed:
    return HandlerFailed(
        f"{error.message} (Service: {error.service}, Status Code: {error.status}, Error Code: {error.code})",
        _handler_code(error.code),
    )
