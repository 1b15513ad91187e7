"""ECS Exec's agent in a task's containers: AWS's conditions decide whether it runs.

The agent starts only together with the container. It needs a task role that may open channels, and a writable root file
system. https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-exec.html
"""

from __future__ import annotations

from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.ecs.errors import EcsError, TaskStartError, invalid_parameter
from alva.region.ecs.model import Container, Json, Task
from alva.region.ecs.permissions import Role, assume

NAME = "ExecuteCommandAgent"
_ACTIONS = ("CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel")


def check_role(definition: Json, what: str) -> None:
    """Refuse ECS Exec for a task definition without a task role, in AWS's words. `what`: "service" or "task"."""
    if not definition.get("taskRoleArn"):
        raise invalid_parameter(
            f"The {what} couldn't be {'created' if what == 'service' else 'run'} because a valid taskRoleArn is not "
            "being used. Specify a valid taskRoleArn in your task definition and try again."
        )


async def task_role(control_plane: ControlPlane, task: Task, definition: Json) -> Role:
    """The task's role, assumed for the agent. Raises TaskStartError when it cannot be assumed."""
    return await assume(control_plane, str(definition.get("taskRoleArn") or ""), task.id)


async def start(control_plane: ControlPlane, task: Task, definition: Json) -> None:
    """Record for each container whether its agent runs, and why not."""
    if not task.enable_execute_command:
        return
    try:
        role = await task_role(control_plane, task, definition)
        for action in _ACTIONS:
            role.check(f"ssmmessages:{action}", "*")
        refused = None
    except (TaskStartError, ServiceError) as error:
        refused = str(error)
    read_only = {c["name"] for c in definition["containerDefinitions"] if c.get("readonlyRootFilesystem")}
    for container in task.containers:
        container.exec_agent = "STOPPED" if refused or container.name in read_only else "RUNNING"
        container.exec_agent_reason = refused or (
            "mkdir /var/lib/amazon/ssm: read-only file system" if container.name in read_only else None
        )


def status(container: Container) -> list[Json]:
    """`managedAgents` of a container, as DescribeTasks shows them."""
    if container.exec_agent is None:
        return []
    is_running = container.exec_agent == "RUNNING" and container.last_status == "RUNNING"
    shown = {"name": NAME, "lastStatus": "RUNNING" if is_running else "STOPPED"}
    if container.exec_agent_reason:
        shown["reason"] = container.exec_agent_reason
    return [shown]


def not_running() -> EcsError:
    """The error of ExecuteCommand where no agent runs."""
    return invalid_parameter(
        "The execute command failed because execute command was not enabled when the task was run or the execute "
        "command agent isn’t running. Wait and try again or run a new task with execute command enabled and try again."
    )
