"""Task definitions: families and their revisions."""

from __future__ import annotations

import re
import time

from alva.region.ecs import dependencies, render
from alva.region.ecs.calls.tags import check_tags
from alva.region.ecs.errors import EcsError, client_error, invalid_parameter
from alva.region.ecs.model import Json
from alva.region.ecs.paging import page
from alva.region.ecs.state import State

_FAMILY = re.compile(r"[A-Za-z0-9_-]{1,255}")

_FARGATE_MEMORY_MIB: dict[int, range | tuple[int, ...]] = {
    256: (512, 1024, 2048),
    512: range(1024, 4096 + 1, 1024),
    1024: range(2048, 8192 + 1, 1024),
    2048: range(4096, 16384 + 1, 1024),
    4096: range(8192, 30720 + 1, 1024),
    8192: range(16384, 61440 + 1, 4096),
    16384: range(32768, 122880 + 1, 8192),
}
"""https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html"""
LEAST_MEMORY_MIB = 6
"""https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html (memory)"""


def register_task_definition(state: State, request: Json) -> Json:
    """RegisterTaskDefinition: a new revision of its family."""
    _check(request)
    tags = check_tags(request.get("tags"))
    family = request["family"]
    revision = state.revisions.get(family, 0) + 1
    state.revisions[family] = revision
    definition = {key: value for key, value in request.items() if key != "tags"}
    definition |= {
        "taskDefinitionArn": state.arn("task-definition", f"{family}:{revision}"),
        "revision": revision,
        "status": "ACTIVE",
        "volumes": request.get("volumes") or [],
        "placementConstraints": [],
        "compatibilities": ["EC2", "FARGATE"],
        "requiresAttributes": [],
        "registeredAt": time.time(),
        "registeredBy": f"arn:aws:iam::{state.account_id}:root",
        "containerDefinitions": [_with_defaults(c) for c in request["containerDefinitions"]],
    }
    arn = definition["taskDefinitionArn"]
    state.task_definitions[arn] = definition
    state.tags[arn] = tags
    return {"taskDefinition": definition, "tags": render.tags_list(state, arn)}


def _with_defaults(container: Json) -> Json:
    full = {
        "cpu": 0,
        "essential": True,
        "environment": [],
        "mountPoints": [],
        "portMappings": [],
        "volumesFrom": [],
        "systemControls": [],
        **container,
    }
    full["portMappings"] = [
        {"protocol": "tcp", "hostPort": mapping["containerPort"], **mapping} for mapping in full["portMappings"]
    ]
    if container.get("healthCheck"):
        full["healthCheck"] = {"interval": 30, "timeout": 5, "retries": 3, **container["healthCheck"]}
    return full


def _check(request: Json) -> None:
    if not _FAMILY.fullmatch(request["family"]):
        raise client_error(
            "Invalid 'family' value. Up to 255 letters (uppercase and lowercase), numbers, hyphens, and underscores "
            "are allowed."
        )
    if request.get("networkMode") != "awsvpc":
        raise client_error("Fargate only supports network mode ‘awsvpc’.")
    if not request.get("requiresCompatibilities"):
        raise client_error("The local region runs Fargate tasks alone: requiresCompatibilities must be FARGATE.")
    _check_size(request)
    containers = request["containerDefinitions"]
    names = [c.get("name") for c in containers]
    if not containers:
        raise client_error("Container list cannot be empty.")
    if len(set(names)) != len(names):
        raise client_error("Container names should be unique")
    if not any(c.get("essential", True) for c in containers):
        raise client_error("At least one essential container must be specified.")
    for container in containers:
        _check_container(container, names, [v["name"] for v in request.get("volumes") or []])
    if not request.get("executionRoleArn"):
        _check_needs_no_role(containers)
    try:
        dependencies.stop_order(containers)
    except ValueError as error:
        raise client_error(f"Container dependencies are circular. {error}") from None


def _check_needs_no_role(containers: list[Json]) -> None:
    if any(c.get("secrets") for c in containers):
        raise client_error(
            "When you are specifying container secrets, you must also specify a value for 'executionRoleArn'."
        )
    if any(c.get("logConfiguration") for c in containers):
        raise client_error("Fargate requires task definition to have execution role ARN to support log driver awslogs.")
    # All images in this region are in ECR.
    raise client_error("Fargate requires task definition to have execution role ARN to support ECR images.")


def _check_size(request: Json) -> None:
    cpu, memory = request.get("cpu"), request.get("memory")
    if cpu is None:
        raise client_error("Fargate requires that 'cpu' be defined at the task level.")
    if memory is None:
        raise client_error("Fargate requires that 'memory' be defined at the task level.")
    try:
        allowed = _FARGATE_MEMORY_MIB.get(int(cpu), ())
        is_offered = int(memory) in allowed
    except ValueError:
        is_offered = False
    if not is_offered:
        raise _no_such_size(cpu, memory)
    containers = request["containerDefinitions"]
    for container in containers:
        for member in ("memory", "memoryReservation"):
            if int(container.get(member) or LEAST_MEMORY_MIB) < LEAST_MEMORY_MIB:
                raise client_error(
                    f"Invalid setting for container '{container.get('name')}'. '{member}' must be at least "
                    f"{LEAST_MEMORY_MIB}."
                )
            if int(container.get(member) or 0) > int(memory):
                raise client_error(
                    f"The '{member}' setting for container '{container.get('name')}' is greater than for the task."
                )
    if any(int(container.get("cpu") or 0) < 0 for container in containers):
        raise client_error("The 'cpu' setting for a container can not be negative.")
    if sum(int(container.get("cpu") or 0) for container in containers) > int(cpu):
        raise client_error("The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.")


def _no_such_size(cpu: object, memory: object) -> EcsError:
    return client_error(
        "No Fargate configuration exists for given values: "
        f"{cpu} CPU, {memory} memory. See the Amazon ECS documentation for the valid values."
    )


def _check_container(container: Json, names: list[str | None], volumes: list[str]) -> None:
    name = container.get("name")
    if not name:
        raise client_error("Container.name should not be null or empty.")
    if not container.get("image"):
        raise client_error("Container.image should not be null or empty.")
    for dependency in container.get("dependsOn") or []:
        if dependency["containerName"] not in names:
            raise client_error(f"Container '{name}' depends on unknown container '{dependency['containerName']}'.")
        if dependency["containerName"] == name:
            raise client_error(f"Container '{name}' cannot depend on itself.")
    for mount in container.get("mountPoints") or []:
        if mount.get("sourceVolume") not in volumes:
            raise client_error(f"Unknown volume '{mount.get('sourceVolume')}'.")
    options = (container.get("logConfiguration") or {}).get("options") or {}
    if container.get("logConfiguration"):
        for option in ("awslogs-group", "awslogs-region", "awslogs-stream-prefix"):
            if option not in options:
                raise client_error(f"Log driver awslogs requires options: {option}")
    if not 0 <= container.get("stopTimeout", 30) <= 120:
        raise client_error("The stopTimeout value of a container must be between 0 and 120 seconds on Fargate.")
    _check_health(container.get("healthCheck"))
    for mapping in container.get("portMappings") or []:
        if not 0 <= mapping["containerPort"] <= 65535:
            raise client_error("The containerPort of a port mapping must be between 0 and 65535.")
        if mapping.get("hostPort") not in (None, 0, mapping["containerPort"]):
            raise client_error(
                "When networkMode=awsvpc, the host ports and container ports in port mappings must match."
            )


def _check_health(check: Json | None) -> None:
    if check is not None and not check["command"]:
        raise client_error("The command of a health check can not be empty.")
    limits = {"interval": (5, 300), "timeout": (2, 60), "retries": (1, 10), "startPeriod": (0, 300)}
    for member, (low, high) in limits.items():
        value = (check or {}).get(member)
        if value is not None and not low <= value <= high:
            raise client_error(f"Health check {member} must be between {low} and {high}.")


def deregister_task_definition(state: State, request: Json) -> Json:
    """DeregisterTaskDefinition: sets INACTIVE; running tasks continue."""
    if ":" not in request["taskDefinition"].rpartition("/")[2]:
        raise client_error("Revision is missing.")
    definition = state.task_definition(request["taskDefinition"])
    if definition["status"] == "ACTIVE":
        definition["status"] = "INACTIVE"
        definition["deregisteredAt"] = time.time()
    return {"taskDefinition": definition}


def delete_task_definitions(state: State, request: Json) -> Json:
    """DeleteTaskDefinitions: deletes INACTIVE ones; those in use by tasks or services are returned as failures."""
    deleted, failures = [], []
    for reference in request["taskDefinitions"]:
        definition = state.task_definition(reference)
        arn = definition["taskDefinitionArn"]
        if definition["status"] == "ACTIVE":
            failures.append({"arn": arn, "reason": "The specified task definition is still in ACTIVE status."})
            continue
        deleted.append({**definition, "status": "DELETE_IN_PROGRESS"})
        if not any(t.task_definition_arn == arn for t in state.tasks.values()) and not any(
            r.task_definition_arn == arn for s in state.services.values() for r in s.revisions
        ):
            del state.task_definitions[arn]
            state.tags.pop(arn, None)
        else:
            definition["status"] = "DELETE_IN_PROGRESS"
    return {"taskDefinitions": deleted, "failures": failures}


def describe_task_definition(state: State, request: Json) -> Json:
    """DescribeTaskDefinition."""
    definition = state.task_definition(request["taskDefinition"])
    answer: Json = {"taskDefinition": definition}
    if "TAGS" in (request.get("include") or ()):
        answer["tags"] = render.tags_list(state, definition["taskDefinitionArn"])
    return answer


def list_task_definitions(state: State, request: Json) -> Json:
    """ListTaskDefinitions; `familyPrefix` is the full name of a family, as on AWS."""
    status, family = request.get("status") or "ACTIVE", request.get("familyPrefix")
    found = [
        d for d in state.task_definitions.values() if d["status"] == status and (not family or d["family"] == family)
    ]
    found.sort(key=lambda d: (d["family"], d["revision"]), reverse=request.get("sort") == "DESC")
    return page("taskDefinitionArns", [d["taskDefinitionArn"] for d in found], request)


def list_task_definition_families(state: State, request: Json) -> Json:
    """ListTaskDefinitionFamilies."""
    status = request.get("status") or "ACTIVE"
    if status not in ("ACTIVE", "INACTIVE", "ALL"):
        raise invalid_parameter(f"Invalid status: {status}")
    active = {d["family"] for d in state.task_definitions.values() if d["status"] == "ACTIVE"}
    every = {d["family"] for d in state.task_definitions.values()}
    families = {"ACTIVE": active, "INACTIVE": every - active, "ALL": every}[status]
    prefix = request.get("familyPrefix") or ""
    return page("families", sorted(f for f in families if f.startswith(prefix)), request)
