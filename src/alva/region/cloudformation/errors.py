"""Errors of the CloudFormation API."""

from __future__ import annotations

from alva.region.aws_error import AwsError


class Refused(AwsError):
    """A request that is refused, with AWS's error code and message."""

    def __init__(self, message: str, code: str = "ValidationError", status: int = 400) -> None:
        super().__init__(code, message, status)


def no_such_stack(name: str) -> Refused:
    """The error of most calls for a stack that does not exist."""
    return Refused(f"Stack [{name}] does not exist")
