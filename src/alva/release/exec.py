"""ECS Exec: choose a running task and open a session in it.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-exec.html
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alva.aws import Aws, explained
from alva.errors import AlvaError, SessionFailed, UsageError
from alva.sessions.channel import Session

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import TaskTypeDef

SETTING = "tasks.exec_enabled"
AGENT = "ExecuteCommandAgent"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A container of a running task that ECS Exec can enter."""

    cluster: str
    task_arn: str
    container: str

    @property
    def task(self) -> str:
        """The task's id."""
        return self.task_arn.rpartition("/")[2]


def choose(
    aws: Aws, cluster: str, service: str, *, environment: str, container: str, task: str | None = None
) -> Target:
    """Return the container for a session: of `task` (its id, or the beginning of it), or of the service's newest
    running task.

    Raises UsageError without such a task or container, SessionFailed when the task accepts no session.
    """
    with explained(f"read the tasks of {service}"):
        arns = aws.ecs.list_tasks(cluster=cluster, serviceName=service, desiredStatus="RUNNING")["taskArns"]
        tasks = aws.ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else []
    running = [each for each in tasks if each.get("lastStatus") == "RUNNING"]
    ids = [each["taskArn"].rpartition("/")[2] for each in running]
    wanted = [each for each, found in zip(running, ids, strict=True) if task is None or found.startswith(task)]
    if not wanted or (task is not None and len(wanted) > 1):
        which = f"task {task!r} of {service}" if task else f"a running task of {service}"
        how_many = "more than one id begins with it" if wanted else "there is none"
        raise UsageError(
            f"cannot choose {which}: {how_many}",
            evidence=[f"running: {', '.join(ids) or 'no task'}"],
            next_step="./alva status" if ids else "./alva status; ./alva wake, if it sleeps",
        )
    chosen = max(wanted, key=lambda each: each["startedAt"])
    names = [each["name"] for each in chosen["containers"]]
    if container not in names:
        raise UsageError(
            f"cannot find a container {container!r} in {service}", evidence=[f"there are {', '.join(names)}"]
        )
    _check_accepts_sessions(chosen, container, service, environment)
    return Target(cluster=cluster, task_arn=chosen["taskArn"], container=container)


def _check_accepts_sessions(task: TaskTypeDef, container: str, service: str, environment: str) -> None:
    found = task["taskArn"].rpartition("/")[2]
    if not task.get("enableExecuteCommand"):
        raise SessionFailed(
            f"cannot open a session in {service}: ECS Exec is off in {environment}",
            evidence=[f"task {found} was started without it, and it cannot be switched on in a running task"],
            next_step=f"set {SETTING} for {environment} in infrastructure/lib/config/environments.py, then ./alva "
            "deploy: new tasks have it",
        )
    agents = [
        agent
        for each in task["containers"]
        if each["name"] == container
        for agent in each.get("managedAgents", [])
        if agent.get("name") == AGENT
    ]
    if agents and agents[0].get("lastStatus") != "RUNNING":
        raise SessionFailed(
            f"cannot open a session in {service}: the agent of ECS Exec in task {found} is "
            f"{agents[0].get('lastStatus')}",
            evidence=[agents[0].get("reason", "no reason is given")],
            next_step="if it was started a moment ago, run the same command again; otherwise its task role lacks "
            "ssmmessages:*Channel, or its file system is read-only",
        )


def start(aws: Aws, target: Target, command: str) -> Session:
    """Start a session in which ECS runs `command` (split as a shell would). Raises SessionFailed with AWS's message."""
    try:
        with explained(f"open a session in task {target.task}"):
            answer = aws.ecs.execute_command(
                cluster=target.cluster,
                task=target.task_arn,
                container=target.container,
                command=command,
                interactive=True,  # ECS supports no other
            )
    except AlvaError as error:
        raise SessionFailed(
            error.message,
            evidence=error.evidence,
            next_step=error.next_step
            or "./alva status; ECS Exec needs ecs:ExecuteCommand and a running agent in the task",
        ) from error
    session = answer["session"]
    return Session(id=session["sessionId"], stream_url=session["streamUrl"], token=session["tokenValue"])


def signature(aws: Aws, session: Session) -> dict[str, str]:
    """Return the headers that open the session's data channel, signed as AWS's plugin does."""
    return aws.signature("ssmmessages", session.stream_url)


def end(aws: Aws, session: Session) -> None:
    """End a session that is still open. AWS ends a session that is idle for 20 minutes."""
    with contextlib.suppress(AlvaError), explained(f"end session {session.id}"):
        aws.ssm.terminate_session(SessionId=session.id)
