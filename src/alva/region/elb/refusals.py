"""Errors of the elbv2 API."""

from __future__ import annotations

from alva.region.aws_error import AwsError


class Invalid(AwsError):
    """A request that AWS refuses too."""

    def __init__(self, message: str, code: str = "ValidationError") -> None:
        super().__init__(code, message)


class NotHonoured(AwsError):
    """A request that AWS accepts and the region's load balancer does not support."""

    def __init__(self, what: str) -> None:
        super().__init__(
            "UnsupportedOperation", f"cannot set up {what}: the local region's load balancer does not honour it"
        )
