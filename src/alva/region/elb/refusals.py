"""Why a request to the elbv2 API is refused."""

from __future__ import annotations


class Invalid(ValueError):
    """AWS would refuse this; `code` is the error code of its API."""

    def __init__(self, message: str, code: str = "ValidationError") -> None:
        super().__init__(message)
        self.code = code


class NotHonoured(ValueError):
    """AWS accepts this, and the local region's load balancer would do something else."""

    def __init__(self, what: str) -> None:
        super().__init__(f"cannot set up {what}: the local region's load balancer does not honour it")
