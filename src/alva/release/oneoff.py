"""Runs one task to its end, with its log as it is written and the exit code of each container.

Unlike `aws ecs run-task` with its waiter, it treats `failures[]` and an exit code of null as failures, and stops the
task at a time limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alva.aws import Aws, Interrupted, error_code, explained
from alva.errors import AlvaError, TimedOut

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import (
        ContainerDefinitionOutputTypeDef,
        ContainerOverrideTypeDef,
        TaskOverrideTypeDef,
        TaskTypeDef,
    )

Line = Callable[[str], None]

UNKNOWN_SECONDS = 60.0
"""How long ECS may not find a new task: it is eventually consistent.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html recommends to retry DescribeTasks with
back-off.
"""

IDLE_COMMAND = ("sleep", "infinity")
"""The command of the other containers of a one-off task, where the service's entry has none."""

LAST_LINES_SECONDS = 5.0
"""How long to wait for the last log lines, which arrive shortly after the container's end."""


@dataclass(frozen=True, kw_only=True)
class OneOff:
    """A one-off task."""

    cluster: str
    task_definition: str
    container: str
    """The container whose output is shown and whose exit code counts."""
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    command: tuple[str, ...] = ()
    """Replaces the container's own command."""
    idle_commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other container -> its command, where `command` is given."""
    started_by: str = "alva"
    timeout_seconds: float = 900


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The result of a task."""

    task_arn: str
    exit_code: int | None
    """The container's exit code; None if it has never run."""
    stopped_reason: str
    reasons: tuple[str, ...]
    """Each failed container, as text."""

    @property
    def succeeded(self) -> bool:
        """Whether all containers that count ended with 0."""
        return self.exit_code == 0 and not self.reasons


def run(aws: Aws, one_off: OneOff, *, output: Line, state: Line, given_up: threading.Event | None = None) -> Ended:
    """Run the task to its end and return its result.

    `output` receives the container's output, `state` the states that ECS reports. Raises AlvaError when the task cannot
    start, TimedOut at the time limit, and Interrupted once it is `given_up`; both stop the task.
    """
    definition = _container_definitions(aws, one_off.task_definition)
    task_arn = _start(aws, one_off, definition)
    tail = _Tail(aws, definition[one_off.container], task_arn)
    started = time.monotonic()
    seen_status = ""

    def stopped() -> TaskTypeDef | None:
        nonlocal seen_status
        if given_up is not None and given_up.is_set():
            raise Interrupted
        with explained(f"follow task {_short(task_arn)}"):
            tasks = aws.ecs.describe_tasks(cluster=one_off.cluster, tasks=[task_arn])["tasks"]
        if not tasks:
            if not seen_status and time.monotonic() - started < UNKNOWN_SECONDS:
                return None
            raise AlvaError(f"cannot follow task {_short(task_arn)}: ECS has no such task", next_step="./alva status")
        status = tasks[0].get("lastStatus", "")
        if status != seen_status:
            seen_status = status
            state(f"task {_short(task_arn)} is {status}")
        tail.show(output)
        return tasks[0] if status == "STOPPED" else None

    try:
        task = aws.poll.until(
            stopped, timeout_seconds=one_off.timeout_seconds, what=f"task {_short(task_arn)} ({one_off.container})"
        )
    except BaseException as error:
        fate = _stop(aws, one_off, task_arn, error)
        if isinstance(error, TimedOut):
            raise TimedOut(
                f"cannot finish {one_off.container}: still running after {time.monotonic() - started:.0f} s, {fate}",
                evidence=[f"last log: {line}" for line in tail.last_lines()],
            ) from error
        if isinstance(error, AlvaError):
            error.evidence = (*error.evidence, f"task {task_arn}: {fate}")
        elif isinstance(error, Exception):
            raise AlvaError(
                f"cannot follow task {_short(task_arn)} ({one_off.container})",
                evidence=[f"{type(error).__name__}: {error}", f"task {task_arn}: {fate}"],
            ) from error
        raise
    ended = _judge(task, one_off.container, paused=_others(definition, one_off))
    if ended.exit_code is not None:
        tail.finish(output)
    return ended


def _stop(aws: Aws, one_off: OneOff, task_arn: str, error: BaseException) -> str:
    """Stop a task that cannot be followed, and return its state as text."""
    reasons = {TimedOut: "time limit", Interrupted: "interrupted", KeyboardInterrupt: "interrupted"}
    reason = reasons.get(type(error), "it cannot be followed")
    try:
        aws.ecs.stop_task(cluster=one_off.cluster, task=task_arn, reason=f"alva: {reason}")
    except Exception as failure:
        return f"it may still run, StopTask failed: {error_code(failure) or type(failure).__name__}"
    return "stopped"


def network_of_service(aws: Aws, cluster: str, service: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the task definition, subnets and security groups of a running service."""
    with explained(f"read service {service}"):
        services = aws.ecs.describe_services(cluster=cluster, services=[service])["services"]
    if not services or services[0].get("status") != "ACTIVE":
        raise AlvaError(f"cannot find service {service} in cluster {cluster}", next_step="./alva status")
    network = services[0].get("networkConfiguration", {}).get("awsvpcConfiguration")
    if network is None:
        raise AlvaError(f"cannot run a task like service {service}: it has no network configuration")
    return (
        services[0]["taskDefinition"],
        tuple(network["subnets"]),
        tuple(network.get("securityGroups", [])),
    )


def _container_definitions(aws: Aws, task_definition: str) -> dict[str, ContainerDefinitionOutputTypeDef]:
    with explained(f"read task definition {task_definition}"):
        answer = aws.ecs.describe_task_definition(taskDefinition=task_definition)
    return {c["name"]: c for c in answer["taskDefinition"].get("containerDefinitions", [])}


def _others(definition: Mapping[str, Any], one_off: OneOff) -> set[str]:
    """Return the containers that run an idle command."""
    return set(definition) - {one_off.container} if one_off.command else set()


def _overrides(definition: Mapping[str, Any], one_off: OneOff) -> list[ContainerOverrideTypeDef]:
    """Return the overrides: the container's command, and idle commands for the others.

    RunTask starts every container of a task definition. The others wait until the task ends: a one-off task must not
    process the queue too.
    """
    if not one_off.command:
        return []
    overrides: list[ContainerOverrideTypeDef] = [{"name": one_off.container, "command": list(one_off.command)}]
    for other in sorted(_others(definition, one_off)):
        overrides.append({"name": other, "command": list(one_off.idle_commands.get(other, IDLE_COMMAND))})
    return overrides


def _start(aws: Aws, one_off: OneOff, definition: Mapping[str, Any]) -> str:
    if one_off.container not in definition:
        raise AlvaError(
            f"cannot run {one_off.container}: task definition {one_off.task_definition} has no such container",
            evidence=[f"it has {', '.join(definition)}"],
        )
    overrides: TaskOverrideTypeDef = {"containerOverrides": _overrides(definition, one_off)}
    with explained(f"start {one_off.container} as a one-off task"):
        answer = aws.ecs.run_task(
            cluster=one_off.cluster,
            taskDefinition=one_off.task_definition,
            count=1,
            launchType="FARGATE",
            startedBy=one_off.started_by[:36],
            networkConfiguration={
                "awsvpcConfiguration": {
                    "subnets": list(one_off.subnets),
                    "securityGroups": list(one_off.security_groups),
                    "assignPublicIp": "DISABLED",
                }
            },
            overrides=overrides,
        )
    if answer.get("failures") or not answer.get("tasks"):
        raise AlvaError(
            f"cannot start {one_off.container} as a one-off task",
            evidence=[
                f"{f.get('reason')}: {f.get('arn') or ''} {f.get('detail') or ''}".strip()
                for f in answer.get("failures", [])
            ]
            or ["RunTask answered with neither a task nor a failure"],
        )
    return answer["tasks"][0]["taskArn"]


def _judge(task: TaskTypeDef, container: str, paused: set[str]) -> Ended:
    reasons = []
    exit_code: int | None = None
    for item in task.get("containers", []):
        name = item.get("name", "")
        if name == container:
            exit_code = item.get("exitCode")
        if name in paused or item.get("exitCode") == 0:
            continue
        code = item.get("exitCode")
        said = f": {item['reason']}" if item.get("reason") else ""
        reasons.append(f"container {name} {'never ran' if code is None else f'ended with exit code {code}'}{said}")
    return Ended(
        task_arn=task["taskArn"],
        exit_code=exit_code,
        stopped_reason=task.get("stoppedReason", ""),
        reasons=tuple(reasons),
    )


class _Tail:
    """Shows a container's output in CloudWatch Logs as it is written.

    The awslogs driver writes to the stream PREFIX/CONTAINER/TASK-ID (AWS: "Using the awslogs log driver").
    """

    def __init__(self, aws: Aws, container: ContainerDefinitionOutputTypeDef, task_arn: str) -> None:
        options: Mapping[str, str] = container.get("logConfiguration", {}).get("options", {})
        self._aws = aws
        self._group = options.get("awslogs-group")
        self._stream = f"{options.get('awslogs-stream-prefix')}/{container['name']}/{_short(task_arn)}"
        self._token: str | None = None
        self._lines: list[str] = []
        self._has_complained = False

    def show(self, line: Line) -> int:
        """Pass on new lines; return their number."""
        if self._group is None:
            return 0
        count = 0
        while True:
            arguments: dict[str, Any] = {"nextToken": self._token} if self._token else {}
            try:
                answer = self._aws.logs.get_log_events(
                    logGroupName=self._group, logStreamName=self._stream, startFromHead=True, **arguments
                )
            except Exception as error:
                if error_code(error) != "ResourceNotFoundException" and not self._has_complained:
                    # The exit code decides: unreadable lines must not fail the task.
                    self._has_complained = True
                    line(f"cannot read the log: {error_code(error) or type(error).__name__}")
                return count
            for event in answer["events"]:
                self._lines.append(event.get("message", ""))
                line(event.get("message", ""))
            count += len(answer["events"])
            token, self._token = self._token, answer["nextForwardToken"]
            if token == self._token or not answer["events"]:
                return count

    def finish(self, line: Line) -> None:
        """Show the last lines: poll until no further line follows one, or the time is up."""
        deadline = time.monotonic() + LAST_LINES_SECONDS
        while True:
            new = self.show(line)
            if (self._lines and not new) or time.monotonic() > deadline or self._group is None:
                return
            self._aws.poll.pause(0.2)

    def last_lines(self, count: int = 5) -> Sequence[str]:
        """Return the last lines that were shown."""
        return self._lines[-count:]


def _short(arn: str) -> str:
    return arn.rpartition("/")[2]
