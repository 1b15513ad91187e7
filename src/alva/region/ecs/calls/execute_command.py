"""ExecuteCommand: a session in a container of a running task."""

from __future__ import annotations

import logging
import shlex

from alva.region.background import Background
from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.ecs import awslogs, exec_agent
from alva.region.ecs.controller import Controller
from alva.region.ecs.errors import TaskStartError, invalid_parameter
from alva.region.ecs.exec_sessions import PATH, ExecSession, ExecSessions
from alva.region.ecs.model import Container, Json, Task, TaskStatus
from alva.region.ecs.state import State
from alva.region.log_stream import LogStream

logger = logging.getLogger(__name__)


async def execute_command(
    state: State,
    controller: Controller,
    control_plane: ControlPlane,
    sessions: ExecSessions,
    port: int,
    request: Json,
) -> Json:
    """Open a session; the command starts when the client connects."""
    cluster = state.cluster(request.get("cluster"))
    task = state.task(cluster, request["task"])
    if not request["interactive"]:
        raise invalid_parameter("Interactive is the only mode supported currently.")
    if task.last_status is not TaskStatus.RUNNING:
        raise exec_agent.not_running()
    container = _container(task, request.get("container"))
    if container.exec_agent != "RUNNING":
        raise exec_agent.not_running()
    running = controller.container(task, container.name)
    if running is None or running.process is None:
        raise exec_agent.not_running()
    try:
        # Without a shell, like the agent in a container: agent/session/shell/shell_unix.go
        argv = tuple(shlex.split(request["command"]))
    except ValueError as error:
        raise invalid_parameter(f"Failed to parse commands input: {error}") from error
    if not argv:
        raise invalid_parameter("Command cannot be empty.")
    session = ExecSession(argv=argv, container=running.process, environment=dict(running.plan.environment), log=None)
    session.log = await _transcript(state, control_plane, sessions.background, task, container, session.id)
    sessions.open(session)
    return {
        "clusterArn": cluster.arn,
        "containerArn": container.arn,
        "containerName": container.name,
        "interactive": True,
        "session": {
            "sessionId": session.id,
            "streamUrl": f"ws://127.0.0.1:{port}{PATH}{session.id}?role=publish_subscribe",
            "tokenValue": session.token,
        },
        "taskArn": task.arn,
    }


def _container(task: Task, name: str | None) -> Container:
    if name is None and len(task.containers) > 1:
        raise invalid_parameter("Container name must be specified for tasks containing multiple containers.")
    for container in task.containers:
        if name in (None, container.name):
            return container
    raise invalid_parameter("The container name provided in the request was not found.")


async def _transcript(
    state: State,
    control_plane: ControlPlane,
    background: Background,
    task: Task,
    container: Container,
    session_id: str,
) -> LogStream | None:
    """The log stream of the session's transcript: in the cluster's log group, or else in the container's.

    As on AWS, a session without permission to write there runs without a transcript.
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-exec.html#ecs-exec-logging
    """
    cluster = state.clusters[task.cluster_arn.rpartition("/")[2]]
    configuration = (cluster.configuration or {}).get("executeCommandConfiguration") or {}
    definition = state.task_definitions[task.task_definition_arn]
    logging_mode = configuration.get("logging") or "DEFAULT"
    if logging_mode == "NONE":
        return None
    if logging_mode == "OVERRIDE":
        group = (configuration.get("logConfiguration") or {}).get("cloudWatchLogGroupName")
    else:
        own = next(c for c in definition["containerDefinitions"] if c["name"] == container.name)
        group = ((own.get("logConfiguration") or {}).get("options") or {}).get("awslogs-group")
    if not group:
        return None
    stream = LogStream(background, control_plane, group, session_id)
    try:
        role = await exec_agent.task_role(control_plane, task, definition)
        role.check("logs:DescribeLogGroups", "*")
        await awslogs.create(stream, role)
    except (TaskStartError, ServiceError) as error:
        logger.warning("cannot keep the transcript of session %s: %s", session_id, error)
        return None
    return stream
