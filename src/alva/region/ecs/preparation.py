"""Prepares a task before its first container starts: roles, volumes, log streams, secrets, images.

Steps have the Fargate agent's order, and fail with AWS's messages.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from alva.region.background import Background
from alva.region.config import RegionConfig
from alva.region.control_plane import ControlPlane
from alva.region.ecs import awslogs, metadata
from alva.region.ecs.containers import HOST_NAME, ContainerPlan, plan_container
from alva.region.ecs.errors import TaskStartError
from alva.region.ecs.model import Json, Task
from alva.region.ecs.network import host_name
from alva.region.ecs.permissions import Role, assume
from alva.region.ecs.pull import pull_image, pull_secret
from alva.region.ecs.volumes import fill_volumes, make_volumes, remove_volumes
from alva.region.log_stream import LogStream
from alva.region.memory import Group
from alva.region.network import Namespace
from alva.region.region import Region


@dataclass(frozen=True)
class Prepared:
    """The inputs for starting a task's containers."""

    plans: list[ContainerPlan]
    streams: dict[str, LogStream]
    """By container, for those with a log configuration."""


async def prepare(
    task: Task,
    definition: Json,
    region: Region,
    control_plane: ControlPlane,
    network: Namespace | None,
    undo: AsyncExitStack,
) -> Prepared:
    """Prepare the task, and record the images' digests and pull times in it.

    `network` is the task's namespace, if it has one. Everything that this creates registers its removal with `undo` at
    once, so that a later failure removes it too.

    Raises TaskStartError with the task's `stoppedReason`.
    """
    containers = definition["containerDefinitions"]
    records = {record.name: record for record in task.containers}
    overrides = {o["name"]: o for o in task.overrides.get("containerOverrides") or []}
    role = await _assume_roles(task, definition, control_plane)
    undo.push_async_callback(asyncio.to_thread, remove_volumes, task, region.config)
    volumes = make_volumes(task, definition, region.config)
    streams: dict[str, LogStream] = {}
    secrets: dict[str, dict[str, str]] = {}
    for container in containers:
        stream = await _open_stream(task, container, role, control_plane, region.background)
        if stream is not None:
            undo.push_async_callback(stream.close)
            streams[container["name"]] = stream
        secrets[container["name"]] = {
            secret["name"]: await pull_secret(control_plane, role, secret["valueFrom"])
            for secret in container.get("secrets") or []
        }
    memory = region.memory.task(task.id, _mebibytes(task.overrides.get("memory") or definition.get("memory")))
    if memory is not None:
        undo.callback(memory.remove)
    task.pull_started_at = time.time()
    plans = []
    for container in containers:
        name = container["name"]
        image = await pull_image(control_plane, region.images, role, container["image"], name)
        records[name].image_digest = image.digest
        plan = plan_container(
            definition=container,
            override=overrides.get(name, {}),
            image=image,
            secret_values=secrets[name],
            task_environment={
                **task_environment(task, region.config, has_network=network is not None),
                **({metadata.VARIABLE: metadata.uri(records[name])} if network is not None else {}),
            },
            volumes=volumes,
            certificates=region.certificates,
            hosts_folder=region.names.folder,
            network=network,
            memory=_container_memory(memory, container, overrides.get(name, {})),
        )
        fill_volumes(container, image, plan.user, volumes)
        plans.append(plan)
    task.pull_stopped_at = time.time()
    return Prepared(plans, streams)


def task_environment(task: Task, config: RegionConfig, *, has_network: bool) -> dict[str, str]:
    """The platform's variables for every container of a task. A definition can override only HOSTNAME.

    HOST is set with loopback addresses only: servers must listen on the task's address there.
    """
    address = task.address or ""
    return {
        **({} if has_network else {"HOST": address}),
        HOST_NAME: host_name(address, config.region),
        "AWS_REGION": config.region,
        "AWS_DEFAULT_REGION": config.region,
        "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
    }


def _container_memory(task: Group | None, container: Json, override: Json) -> Group | None:
    """A container's control group, below its task's; `memory` is a hard limit."""
    if task is None:
        return None
    try:
        return task.child(container["name"], _mebibytes(override.get("memory") or container.get("memory")))
    except OSError as error:
        raise TaskStartError(
            f"CannotCreateContainerError: cannot limit the memory of the container: {error}", container["name"]
        ) from error


def _mebibytes(value: object) -> int | None:
    """A task definition's limit, in MiB, as bytes."""
    return int(str(value)) * 2**20 if value else None


async def _assume_roles(task: Task, definition: Json, control_plane: ControlPlane) -> Role:
    """Assume the execution role, and the task role, which is only checked."""

    async def assumed(member: str) -> Role | None:
        arn = task.overrides.get(member) or definition.get(member)
        return await assume(control_plane, arn, task.id) if arn else None

    await assumed("taskRoleArn")
    execution_role = await assumed("executionRoleArn")
    if execution_role is None:
        raise TaskStartError("ResourceInitializationError: the task definition has no execution role")
    return execution_role


async def _open_stream(
    task: Task, container: Json, role: Role, control_plane: ControlPlane, background: Background
) -> LogStream | None:
    options = (container.get("logConfiguration") or {}).get("options")
    if not options:
        return None
    name = f"{options['awslogs-stream-prefix']}/{container['name']}/{task.id}"
    stream = LogStream(background, control_plane, options["awslogs-group"], name)
    await awslogs.create(stream, role, create_group=options.get("awslogs-create-group") == "true")
    return stream
