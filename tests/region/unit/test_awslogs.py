"""The awslogs driver with the region's CloudWatch Logs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from ministack import app as ministack_app
from ministack.services import cloudwatch_logs

from alva.region import validation
from alva.region.background import Background
from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.ecs import awslogs
from alva.region.ecs.errors import TaskStartError
from alva.region.log_stream import LogStream

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Role:
    """Allows every action but one."""

    def __init__(self, denied: str = "") -> None:
        self.denied = denied

    def check(self, action: str, resource_arn: str) -> None:
        if action == self.denied:
            raise ServiceError("iam", action, "AccessDeniedException", f"not on {resource_arn}")


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogStream]:
    cloudwatch_logs.reset()
    handlers: dict[str, Any] = {**dict(ministack_app.SERVICE_HANDLERS), "logs": cloudwatch_logs.handle_request}
    validation.install(handlers)
    monkeypatch.setattr(ministack_app, "SERVICE_HANDLERS", handlers)
    yield LogStream(Background(), ControlPlane("000000000000", "us-east-1"), "/web", "web/1")
    cloudwatch_logs.reset()


def messages() -> list[str]:
    groups = cloudwatch_logs._log_groups.get_scoped("000000000000", "us-east-1", "/web")
    return [event["message"] for event in groups["streams"]["web/1"]["events"]]


async def test_task_whose_log_group_is_missing_does_not_start(stream: LogStream) -> None:
    role: Any = Role()
    with pytest.raises(TaskStartError, match=r"CreateLogStream.*The specified log group does not exist"):
        await awslogs.create(stream, role)


async def test_task_whose_role_may_not_write_does_not_start(stream: LogStream) -> None:
    role: Any = Role("logs:PutLogEvents")
    with pytest.raises(TaskStartError, match=r"AccessDeniedException: not on .*log-group:/web:log-stream:web/1"):
        await awslogs.create(stream, role, create_group=True)


async def test_no_line_is_lost_when_the_clock_is_set_back(stream: LogStream, monkeypatch: pytest.MonkeyPatch) -> None:
    role: Any = Role()
    await awslogs.create(stream, role, create_group=True)
    now = time.time()
    for offset, line in ((0.0, "first"), (-5.0, "after the clock was set back"), (-4.0, "last")):
        with monkeypatch.context() as patched:
            patched.setattr("alva.region.log_stream.time.time", lambda at=now + offset: at)
            stream.write(line)
    await stream.close()
    assert sorted(messages()) == sorted(["first", "after the clock was set back", "last"])
