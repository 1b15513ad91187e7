"""What the ECS API answers when it refuses, and why a task cannot start: AWS's names, AWS's wording."""

from __future__ import annotations

from alva.region.aws_error import AwsError


class EcsError(AwsError):
    """A refusal of the ECS API."""


def invalid_parameter(message: str) -> EcsError:
    """The parameter is well-formed and wrong."""
    return EcsError("InvalidParameterException", message)


def client_error(message: str) -> EcsError:
    """The client asked for something that cannot be done with what exists."""
    return EcsError("ClientException", message)


def cluster_not_found() -> EcsError:
    """The cluster does not exist, or is INACTIVE."""
    return EcsError("ClusterNotFoundException", "Cluster not found.")


def service_not_found() -> EcsError:
    """The service does not exist in that cluster."""
    return EcsError("ServiceNotFoundException", "Service not found.")


def not_honoured(what: str) -> EcsError:
    """Asked for something with an effect that this region does not have: refused, never ignored."""
    return EcsError("UnsupportedFeatureException", f"The local region does not honour {what}.")


class TaskStartError(Exception):
    """A task cannot start; the text is its `stoppedReason`. `container` names the one that is to blame, if one is."""

    def __init__(self, reason: str, container: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.container = container
