"""Errors of the ECS API, and reasons why a task cannot start, with AWS's codes and messages."""

from __future__ import annotations

from alva.region.aws_error import AwsError


class EcsError(AwsError):
    """An error of the ECS API."""


def invalid_parameter(message: str) -> EcsError:
    """InvalidParameterException: a well-formed parameter has a wrong value."""
    return EcsError("InvalidParameterException", message)


def client_error(message: str) -> EcsError:
    """ClientException: the request is not possible with the existing resources."""
    return EcsError("ClientException", message)


def cluster_not_found() -> EcsError:
    """The cluster does not exist, or is INACTIVE."""
    return EcsError("ClusterNotFoundException", "Cluster not found.")


def service_not_found() -> EcsError:
    """The service does not exist in that cluster."""
    return EcsError("ServiceNotFoundException", "Service not found.")


def not_honoured(what: str) -> EcsError:
    """UnsupportedFeatureException: the request needs a feature that this region does not have."""
    return EcsError("UnsupportedFeatureException", f"The local region does not honour {what}.")


class TaskStartError(Exception):
    """A task cannot start; the text is its `stoppedReason`. `container` is the container that failed, if it was one."""

    def __init__(self, reason: str, container: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.container = container
