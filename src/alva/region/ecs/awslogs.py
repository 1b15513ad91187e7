"""The awslogs driver: creates a log stream with the permissions of a task's role."""

from __future__ import annotations

from alva.region.control_plane import ServiceError
from alva.region.ecs.errors import TaskStartError
from alva.region.ecs.permissions import Role
from alva.region.log_stream import LogStream


async def create(stream: LogStream, role: Role, *, create_group: bool = False) -> None:
    """Create a stream. Raises TaskStartError if the log group does not exist or the role may not write to it."""
    try:
        if create_group:
            role.check("logs:CreateLogGroup", stream.group_arn)
        for action in ("CreateLogStream", "PutLogEvents"):
            role.check(f"logs:{action}", f"{stream.group_arn}:log-stream:{stream.stream}")
        await stream.create(create_group=create_group)
    except ServiceError as error:
        raise TaskStartError(
            "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
            "failed to create Cloudwatch log stream: operation error CloudWatch Logs: CreateLogStream, "
            f"https response error StatusCode: 400, {error} : exit status 1"
        ) from error
