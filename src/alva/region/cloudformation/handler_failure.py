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


# What the error codes of services mean, beside those that end with one of `_NOT_FOUND`.
_HANDLER_CODES = {
    "ResourceExistsException": "AlreadyExists",
    "EntityAlreadyExists": "AlreadyExists",
    "DuplicateRecordException": "AlreadyExists",
    "404": "NotFound",  # S3's HeadBucket, whose answer has no body
    "NoSuchBucket": "NotFound",
    "NoSuchEntity": "NotFound",
    "QueueDoesNotExist": "NotFound",
    "InvalidParameterException": "InvalidRequest",
    "InvalidRequestException": "InvalidRequest",
    "ValidationException": "InvalidRequest",
}
# Examples: InvalidGroup.NotFound, RepositoryNotFoundException, ReplicationGroupNotFoundFault.
_NOT_FOUND = ("NotFound", "NotFoundException", "NotFoundFault")


async def call(service: str, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """`control_plane.call` that raises HandlerFailed with the service's message."""
    try:
        return await control_plane.call(service, action, request)
    except ServiceError as error:
        raise _failed(error) from error


def handler_code(code: str) -> str:
    """CloudFormation's handler error code for a service's error code."""
    return "NotFound" if code.endswith(_NOT_FOUND) else _HANDLER_CODES.get(code, "GeneralServiceException")


def _failed(error: ServiceError) -> HandlerFailed:
    return HandlerFailed(
        f"{error.message} (Service: {error.service}, Status Code: {error.status}, Error Code: {error.code})",
        handler_code(error.code),
    )
