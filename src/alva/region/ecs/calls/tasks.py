"""Tasks: run, stop, describe, list."""

from __future__ import annotations

import json
import time
from functools import partial

from alva.region.control_plane import ControlPlane
from alva.region.ecs import exec_agent, network, render
from alva.region.ecs.calls.tags import check_tags
from alva.region.ecs.controller import Controller, new_containers
from alva.region.ecs.errors import client_error, invalid_parameter
from alva.region.ecs.model import Cluster, Json, Task, TaskStatus
from alva.region.ecs.paging import described, page
from alva.region.ecs.state import State, new_task_id

MOST_TASKS = 10
"""RunTask's `count`; https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html"""

MOST_OVERRIDE_CHARACTERS = 8192
"""RunTask's `overrides`, with the characters of their JSON; same page."""


def launch_of(cluster: Cluster, request: Json) -> tuple[str | None, list[Json]]:
    """Launch type and capacity provider strategy of a request: one of the two, or the cluster's default strategy."""
    launch_type, strategy = request.get("launchType"), request.get("capacityProviderStrategy") or []
    if launch_type and strategy:
        raise invalid_parameter("Specifying both a launch type and capacity provider strategy is not supported.")
    if not launch_type and not strategy:
        strategy = cluster.default_capacity_provider_strategy
    if not launch_type and not strategy:
        raise invalid_parameter(
            "No Container Instances were found in your cluster."
            " (No launch type, no capacity provider strategy, and the cluster has no default: EC2 is what that means.)"
        )
    for item in strategy:
        if item["capacityProvider"] not in cluster.capacity_providers:
            raise invalid_parameter(
                "The specified capacity provider strategy contains a capacity provider that is not associated with "
                "the cluster. Associate the capacity provider with the cluster and try again."
            )
    return launch_type, strategy


async def check_network(control_plane: ControlPlane, configuration: Json | None) -> Json:
    """The awsvpc configuration of a request, its subnets and security groups checked with EC2."""
    vpc: Json | None = (configuration or {}).get("awsvpcConfiguration")
    if vpc is None:
        raise invalid_parameter("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    if not vpc.get("subnets"):
        raise invalid_parameter("subnets can not be empty.")
    await network.describe_subnets(control_plane, vpc["subnets"])
    await network.check_security_groups(control_plane, vpc.get("securityGroups") or [])
    return {"awsvpcConfiguration": {"assignPublicIp": "DISABLED", "securityGroups": [], **vpc}}


async def run_task(state: State, controller: Controller, control_plane: ControlPlane, request: Json) -> Json:
    """RunTask: creates `count` tasks in PROVISIONING. DescribeTasks returns their further status."""
    cluster = state.cluster(request.get("cluster"))
    definition = state.runnable_task_definition(request["taskDefinition"])
    if request.get("enableExecuteCommand"):
        exec_agent.check_role(definition, "task")
    count = request.get("count") or 1
    if not 1 <= count <= MOST_TASKS:
        raise invalid_parameter("count must be between 1 and 10.")
    launch_type, strategy = launch_of(cluster, request)
    vpc = (await check_network(control_plane, request.get("networkConfiguration")))["awsvpcConfiguration"]
    overrides = request.get("overrides") or {}
    names = {c["name"] for c in definition["containerDefinitions"]}
    for override in overrides.get("containerOverrides") or []:
        if override.get("name") not in names:
            raise invalid_parameter(
                f"Override for container named {override.get('name')} is not a container in the TaskDefinition."
            )
    if len(json.dumps(overrides, separators=(",", ":"), ensure_ascii=False)) > MOST_OVERRIDE_CHARACTERS:
        raise invalid_parameter("Container Overrides length must be at most 8192")
    tags = check_tags(request.get("tags"))
    if request.get("propagateTags") == "TASK_DEFINITION":
        tags = {**state.tags.get(definition["taskDefinitionArn"], {}), **tags}
    if request.get("enableECSManagedTags"):
        tags["aws:ecs:clusterName"] = cluster.name
    token = request.get("clientToken")
    tasks = [
        render.task(state, t, ("TAGS",))
        for t in state.tasks.values()
        if token and t.client_token == token and t.cluster_arn == cluster.arn
    ]
    for _ in range(0 if tasks else count):
        task_id = new_task_id()
        task = Task(
            id=task_id,
            arn=state.arn("task", cluster.name, task_id),
            cluster_arn=cluster.arn,
            task_definition_arn=definition["taskDefinitionArn"],
            group=request.get("group") or f"family:{definition['family']}",
            started_by=request.get("startedBy"),
            containers=new_containers(state, cluster.name, task_id, definition),
            created_at=time.time(),
            subnets=vpc["subnets"],
            security_groups=vpc["securityGroups"],
            assign_public_ip=vpc["assignPublicIp"],
            overrides=overrides,
            capacity_provider=strategy[0]["capacityProvider"] if strategy and not launch_type else None,
            client_token=token,
            enable_execute_command=bool(request.get("enableExecuteCommand")),
        )
        if tags:
            state.tags[task.arn] = dict(tags)
        controller.start_task(task, definition)
        tasks.append(render.task(state, task, ("TAGS",)))
    return {"tasks": tasks, "failures": []}


def stop_task(state: State, controller: Controller, request: Json) -> Json:
    """StopTask: UserInitiated, with the reason of the request."""
    task = state.task(state.cluster(request.get("cluster")), request["task"])
    controller.stop_task(task, "UserInitiated", request.get("reason") or "Task stopped by user")
    return {"task": render.task(state, task, ("TAGS",))}


def describe_tasks(state: State, request: Json) -> Json:
    """DescribeTasks; unknown ones are failures, not errors."""
    cluster = state.cluster(request.get("cluster"))
    if not request["tasks"]:
        raise invalid_parameter("Tasks cannot be empty.")
    if len(request["tasks"]) > 100:
        raise invalid_parameter("Tasks cannot have more than 100 elements.")
    found = [(each, state.find_task(cluster, each)) for each in request["tasks"]]
    rendered = partial(render.task, state, include=request.get("include") or ())
    return described("tasks", found, rendered, partial(state.arn_in, "task", cluster))


def list_tasks(state: State, request: Json) -> Json:
    """ListTasks: by desired status (default RUNNING), family, service, `startedBy`, launch type."""
    cluster = state.cluster(request.get("cluster"))
    wanted = request.get("desiredStatus") or "RUNNING"
    if wanted == "PENDING":
        raise invalid_parameter("desiredStatus PENDING returns no results: ECS never sets it.")
    service = state.service(cluster, request["serviceName"]) if request.get("serviceName") else None
    if request.get("family") and service:
        raise client_error("Filtering by family and serviceName at once is not supported.")
    found = [
        task.arn
        for task in state.tasks.values()
        if task.cluster_arn == cluster.arn
        and task.desired_status == wanted
        and (wanted == "STOPPED" or task.last_status is not TaskStatus.STOPPED)
        and (service is None or task.service_arn == service.arn)
        and (
            not request.get("family") or state.task_definitions[task.task_definition_arn]["family"] == request["family"]
        )
        and (not request.get("startedBy") or task.started_by == request["startedBy"])
        and (not request.get("launchType") or task.launch_type == request["launchType"])
    ]
    return page("taskArns", found, request)
