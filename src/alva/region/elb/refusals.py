"""Why a request to the elbv2 API is refused."""

from __future__ import annotations

from alva.region.aws_error import AwsError


class Invalid(AwsError):
    """AWS would refuse this."""

    def __init__(self, message: str, code: str = "ValidationError") -> None:
        super().__init__(code, message)


class NotHonoured(AwsError):
    """AWS accepts this, and the local region's load balancer would do something else."""

    def __init__(self, what: str) -> None:
        super().__init__(
            "UnsupportedOperation", f"cannot set up {what}: the local region's load balancer does not honour it"
        )
