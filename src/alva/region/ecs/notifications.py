"""ECS's events on EventBridge.

"ECS Deployment State Change", once for each change of a deployment's rollout state:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html
"ECS Task State Change", once for each change of a task's status or of one of its containers':
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_task_events.html
Service action events are not sent.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from alva.region.background import Background
from alva.region.ecs import render
from alva.region.ecs.model import Deployment, Json, RolloutState, Service, Task, TaskStatus
from alva.region.ecs.state import State

_DEPLOYMENT = "ECS Deployment State Change"
_TASK = "ECS Task State Change"
_SENDING = "send ECS events to EventBridge"
DETAIL_TYPES = (_DEPLOYMENT, _TASK)

_EVENTS = {
    RolloutState.IN_PROGRESS: ("INFO", "SERVICE_DEPLOYMENT_IN_PROGRESS"),
    RolloutState.COMPLETED: ("INFO", "SERVICE_DEPLOYMENT_COMPLETED"),
    RolloutState.FAILED: ("ERROR", "SERVICE_DEPLOYMENT_FAILED"),
}


class Notifications:
    """Sends the changes of deployments and tasks since its last call to EventBridge."""

    def __init__(self, state: State, background: Background) -> None:
        self._state = state
        self._background = background
        self._published: dict[str, dict[str, str]] = {}
        """By service: the last reason that was sent for each of its deployments."""
        self._published_tasks: dict[str, tuple[str, ...]] = {}

    def remember_restored(self, services: Iterable[Service]) -> None:
        """Remember the restored state without sending events."""
        for service in services:
            self._remember(service)

    def publish_deployments(self, service: Service) -> None:
        """Send an event for each deployment of the service whose rollout changed."""
        before = self._published.get(service.arn, {})
        self._remember(service)
        for deployment in service.deployments:
            if before.get(deployment.id) != deployment.rollout_state_reason:
                self._send(service, deployment)

    def publish_task(self, task: Task) -> None:
        """Send an event when the status, the desired status or a container's status of the task has changed."""
        now = (task.last_status, task.desired_status, *(container.last_status for container in task.containers))
        if self._published_tasks.get(task.arn) == now:
            return
        self._published_tasks[task.arn] = now
        if task.last_status is TaskStatus.STOPPED:
            del self._published_tasks[task.arn]
        self._put(_TASK, task.arn, lambda: task_detail(self._state, task))

    def _remember(self, service: Service) -> None:
        """Remember the service's present deployments, and forget the former ones."""
        self._published.pop(service.arn, None)
        if service.deployments:
            self._published[service.arn] = {each.id: each.rollout_state_reason for each in service.deployments}

    def _send(self, service: Service, deployment: Deployment) -> None:
        event_type, name = _EVENTS[deployment.rollout_state]
        detail = {
            "eventType": event_type,
            "eventName": name,
            "deploymentId": deployment.id,
            "updatedAt": datetime.fromtimestamp(deployment.updated_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "reason": deployment.rollout_state_reason,
        }
        self._put(_DEPLOYMENT, service.arn, lambda: detail)

    def _put(self, detail_type: str, arn: str, detail: Callable[[], Json]) -> None:
        from ministack.core.responses import request_scope
        from ministack.services import eventbridge

        try:
            entry = {
                "Source": "aws.ecs",
                "DetailType": detail_type,
                "Resources": [arn],
                "Detail": json.dumps(detail()),
            }
            with request_scope(self._state.account_id, self._state.region):
                eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
        except Exception as error:
            # A failing target of a rule must not affect services and tasks.
            self._background.failed(_SENDING, error)
        else:
            self._background.succeeded(_SENDING)


def task_detail(state: State, task: Task) -> Json:
    """A task in its event: as in DescribeTasks, with times as text and the interface's type as `eni`."""
    detail = render.task(state, task)
    for left_out in ("attributes", "healthStatus", "platformFamily", "tags"):
        detail.pop(left_out, None)
    for name, value in detail.items():
        if name.endswith("At"):
            detail[name] = _time(value)
    detail["attachments"] = [{**attachment, "type": "eni"} for attachment in detail["attachments"]]
    return {**detail, "updatedAt": _time(time.time())}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
