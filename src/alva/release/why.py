"""Why a service does not run: stopped tasks' reasons, exit codes and last log lines, joined into lines of evidence."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from alva.aws import Aws, error_code, explained
from alva.release.manifest import Manifest, Service

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import TaskTypeDef

LOG_LINES = 3
ORDINARY_REASONS = ("Scaling activity initiated by", "Task stopped by user")
"""Stopped reasons of tasks that did nothing wrong: a rollout's old tasks, or a person's wish."""


def explain(aws: Aws, manifest: Manifest, *, since: datetime | None = None) -> list[str]:
    """A few lines per service whose tasks failed (since `since`), the first failure of each."""
    lines: list[str] = []
    for service in manifest.services:
        failed = [task for task in _stopped_tasks(aws, manifest, service, since) if _is_failure(task)]
        if failed:
            lines += _describe(aws, service, failed)
    return lines


def _stopped_tasks(aws: Aws, manifest: Manifest, service: Service, since: datetime | None) -> list[TaskTypeDef]:
    with explained(f"look at the stopped tasks of {service.service}"):
        try:
            arns = aws.ecs.list_tasks(
                cluster=manifest.cluster, serviceName=service.service, desiredStatus="STOPPED", maxResults=100
            )["taskArns"]
        except Exception as error:
            if error_code(error) in ("ServiceNotFoundException", "ClusterNotFoundException"):
                # A first creation that failed took the service with it; its tasks are still known by their family.
                arns = aws.ecs.list_tasks(
                    cluster=manifest.cluster, family=service.service, desiredStatus="STOPPED", maxResults=100
                )["taskArns"]
            else:
                raise
        if not arns:
            return []
        tasks = aws.ecs.describe_tasks(cluster=manifest.cluster, tasks=arns)["tasks"]
    recent = [task for task in tasks if since is None or task.get("stoppedAt", task["createdAt"]) >= since]
    return sorted(recent, key=lambda task: task["createdAt"])


def _is_failure(task: TaskTypeDef) -> bool:
    reason = task.get("stoppedReason", "")
    return bool(reason) and not reason.startswith(ORDINARY_REASONS)


def _describe(aws: Aws, service: Service, failed: list[TaskTypeDef]) -> list[str]:
    task = failed[0]
    lines = [f"{service.name}: {task.get('stoppedReason')}" + (f" ({len(failed)} tasks)" if len(failed) > 1 else "")]
    for container in task.get("containers", []):
        code = container.get("exitCode")
        if code == 0:
            continue
        if code is not None:
            lines.append(f"{service.name}: container {container.get('name')} ended with exit code {code}")
        if container.get("reason"):
            lines.append(f"{service.name}: {container['reason']}")
        for text in _last_log_lines(aws, service, task, container.get("name", "")):
            lines.append(f"{service.name}: last log: {text}")
    return lines


def _last_log_lines(aws: Aws, service: Service, task: TaskTypeDef, container: str) -> list[str]:
    """The end of a container's log stream, which the awslogs driver names PREFIX/CONTAINER/TASK-ID."""
    task_id = task["taskArn"].rpartition("/")[2]
    try:
        definition = aws.ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])["taskDefinition"]
        options = next(
            c.get("logConfiguration", {}).get("options", {})
            for c in definition.get("containerDefinitions", [])
            if c["name"] == container
        )
        events = aws.logs.get_log_events(
            logGroupName=options.get("awslogs-group", service.log_group),
            logStreamName=f"{options.get('awslogs-stream-prefix')}/{container}/{task_id}",
            limit=LOG_LINES,
        )["events"]
    except Exception as error:
        if error_code(error) or isinstance(error, StopIteration):
            return []  # no log is no reason to hide the rest
        raise
    return [event["message"][:400] for event in events]
