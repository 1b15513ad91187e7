"""An AWS service's refusal: a code and a message."""

from __future__ import annotations


class AwsError(Exception):
    """A refusal. `code` is the exception's name in the service's API reference, `status` the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
