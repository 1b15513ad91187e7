"""Services: create, update, delete, describe, list."""

from __future__ import annotations

import re
import time
from functools import partial

from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.ecs import exec_agent, render, rollouts
from alva.region.ecs.calls.tags import check_tags
from alva.region.ecs.calls.tasks import check_network, launch_of
from alva.region.ecs.controller import Controller
from alva.region.ecs.errors import EcsError, invalid_parameter
from alva.region.ecs.model import Cluster, Json, Revision, Service
from alva.region.ecs.paging import described, page
from alva.region.ecs.state import State, new_deployment_number

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")

DEFAULT_DEPLOYMENT_CONFIGURATION: Json = {
    "deploymentCircuitBreaker": {"enable": False, "rollback": False},
    "maximumPercent": 200,
    "minimumHealthyPercent": 100,
    "strategy": "ROLLING",
    "bakeTimeInMinutes": 0,
}

_OWN_REVISION = (
    "taskDefinition",
    "networkConfiguration",
    "loadBalancers",
    "serviceRegistries",
    "capacityProviderStrategy",
    "platformVersion",
)
"""Parameters whose change starts a new deployment:
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html"""


async def create_service(state: State, controller: Controller, control_plane: ControlPlane, request: Json) -> Json:
    """CreateService: the service and its first deployment."""
    cluster = state.cluster(request.get("cluster"))
    name = request["serviceName"]
    if not _NAME.fullmatch(name):
        raise invalid_parameter(
            "Up to 255 letters (uppercase and lowercase), numbers, underscores, and hyphens are allowed in serviceName."
        )
    desired = request.get("desiredCount", 1)
    if desired is None or desired < 0:
        raise invalid_parameter("DesiredCount can not be negative.")
    tags = check_tags(request.get("tags"))
    configuration = _deployment_configuration(request.get("deploymentConfiguration"), DEFAULT_DEPLOYMENT_CONFIGURATION)
    _check_grace_period(request.get("healthCheckGracePeriodSeconds"), request.get("loadBalancers"))
    arn = state.arn("service", cluster.name, name)
    revision = await _revision(state, control_plane, cluster, arn, request)
    if request.get("enableExecuteCommand"):
        exec_agent.check_role(state.task_definitions[revision.task_definition_arn], "service")
    existing = state.services.get(arn)
    if existing is not None and existing.status == "ACTIVE":
        raise invalid_parameter("Creation of service was not idempotent.")
    if existing is not None and existing.status == "DRAINING":
        raise invalid_parameter("Unable to Start a service that is still Draining.")
    now = time.time()
    service = Service(
        name=name,
        arn=arn,
        cluster_arn=cluster.arn,
        created_at=now,
        created_by=f"arn:aws:iam::{state.account_id}:root",
        desired_count=desired,
        deployment_configuration=configuration,
        health_check_grace_period_seconds=request.get("healthCheckGracePeriodSeconds") or 0,
        enable_execute_command=bool(request.get("enableExecuteCommand")),
        enable_ecs_managed_tags=bool(request.get("enableECSManagedTags")),
        propagate_tags=request.get("propagateTags") or "NONE",
        availability_zone_rebalancing=request.get("availabilityZoneRebalancing") or "DISABLED",
    )
    state.services[arn] = service
    state.tags[arn] = tags
    rollouts.begin(service, revision, now)
    controller.changed()
    return {"service": render.service(state, service, ("TAGS",))}


async def _revision(
    state: State, control_plane: ControlPlane, cluster: Cluster, service_arn: str, request: Json
) -> Revision:
    """The revision that the request describes. References to resources of other services are checked."""
    if not request.get("taskDefinition"):
        raise invalid_parameter("TaskDefinition can not be blank.")
    definition = state.runnable_task_definition(request["taskDefinition"])
    launch_type, strategy = launch_of(cluster, request)
    network_configuration = await check_network(control_plane, request.get("networkConfiguration"))
    balancers = request.get("loadBalancers") or []
    await _check_load_balancers(control_plane, definition, balancers)
    registries = request.get("serviceRegistries") or []
    for registry in registries:
        await _check_registry(control_plane, registry)
    return Revision(
        arn=f"{service_arn.replace(':service/', ':service-revision/')}/{new_deployment_number()}",
        created_at=time.time(),
        task_definition_arn=definition["taskDefinitionArn"],
        network_configuration=network_configuration,
        load_balancers=balancers,
        service_registries=registries,
        launch_type=launch_type,
        capacity_provider_strategy=[{"weight": 1, "base": 0, **item} for item in strategy],
        platform_version="1.4.0",
    )


async def _check_load_balancers(control_plane: ControlPlane, definition: Json, balancers: list[Json]) -> None:
    for balancer in balancers:
        container = next(
            (c for c in definition["containerDefinitions"] if c["name"] == balancer.get("containerName")), None
        )
        if container is None:
            raise invalid_parameter(
                f"The container {balancer.get('containerName')} does not exist in the task definition."
            )
        port = balancer.get("containerPort")
        if port not in [m["containerPort"] for m in container["portMappings"]]:
            raise invalid_parameter(f"The container {container['name']} did not have a container port {port} defined.")
        await _check_target_group(control_plane, balancer.get("targetGroupArn") or "")


async def _check_target_group(control_plane: ControlPlane, arn: str) -> None:
    try:
        answer = await control_plane.call("elasticloadbalancing", "DescribeTargetGroups", TargetGroupArns=[arn])
    except ServiceError as error:
        raise invalid_parameter(f"Unable to find target group: {arn}. {error.message}") from error
    group = next(iter(answer["TargetGroups"]), None)
    if group is None:
        raise invalid_parameter(f"The specified target group does not exist. (target group {arn})")
    if group["TargetType"] != "ip":
        raise invalid_parameter(
            f"The provided target group {arn} has target type {group['TargetType']}, which is incompatible "
            "with the awsvpc network mode specified in the task definition."
        )
    if not group["LoadBalancerArns"]:
        raise invalid_parameter(
            f"The target group with targetGroupArn {arn} does not have an associated load balancer."
        )


async def _check_registry(control_plane: ControlPlane, registry: Json) -> None:
    service_id = registry["registryArn"].rpartition("/")[2]
    try:
        await control_plane.call("servicediscovery", "GetService", Id=service_id)
    except ServiceError as error:
        raise invalid_parameter(f"Could not find a service registry with ARN {registry['registryArn']}.") from error


def _deployment_configuration(given: Json | None, before: Json) -> Json:
    """The request's values merged over the former ones. Raises InvalidParameterException for invalid values."""
    merged = {**before, **{k: v for k, v in (given or {}).items() if v is not None}}
    most, least = merged["maximumPercent"], merged["minimumHealthyPercent"]
    if most < 100 or least < 0 or most > 2**31 or (most == 100 and least >= 100):
        raise invalid_parameter(
            "Invalid deployment configuration: both values for maximumPercent and minimumHealthyPercent cannot be 100 "
            "as this will block deployments"
            if most == 100
            else "Invalid deployment configuration: maximumPercent must be at least 100"
        )
    early = merged.get("earlySuccessCriteria") or {}
    if early.get("enable") and ("healthyPercent" not in early or "sourceServiceRevisionCleanup" not in early):
        raise invalid_parameter(
            "healthyPercent and sourceServiceRevisionCleanup must be specified when earlySuccessCriteria is enabled."
        )
    breaker = merged.get("deploymentCircuitBreaker")
    if breaker is not None:
        merged["deploymentCircuitBreaker"] = {"rollback": False, **breaker}
    return merged


def _check_grace_period(seconds: int | None, balancers: list[Json] | None) -> None:
    if seconds and not balancers:
        raise invalid_parameter("Health check grace period is only valid for services configured to use load balancers")
    if seconds is not None and not 0 <= seconds <= 2_147_483_647:
        raise invalid_parameter("healthCheckGracePeriodSeconds must be between 0 and 2147483647.")


async def update_service(state: State, controller: Controller, control_plane: ControlPlane, request: Json) -> Json:
    """UpdateService: starts a deployment if the revision changes or the request forces one; else only sets values."""
    service = state.service(state.cluster(request.get("cluster")), request["service"])
    if service.status != "ACTIVE":
        raise EcsError("ServiceNotActiveException", "Service was not ACTIVE.")
    cluster = state.clusters[service.cluster_arn.rpartition("/")[2]]
    before = service.revision(service.primary.revision_arn)
    described: Json = {
        "taskDefinition": before.task_definition_arn,
        "networkConfiguration": before.network_configuration,
        "loadBalancers": before.load_balancers,
        "serviceRegistries": before.service_registries,
        "platformVersion": before.platform_version,
    }
    described["capacityProviderStrategy" if before.capacity_provider_strategy else "launchType"] = (
        before.capacity_provider_strategy or before.launch_type
    )
    given = {key: request[key] for key in _OWN_REVISION if request.get(key) is not None}
    if "capacityProviderStrategy" in given:
        described.pop("launchType", None)
    revision = before
    if given or request.get("forceNewDeployment"):
        if given.get("taskDefinition") == before.task_definition_arn:
            given.pop("taskDefinition")  # The running tasks may use a revision that is INACTIVE by now.
        revision = (
            await _revision(state, control_plane, cluster, service.arn, {**described, **given}) if given else before
        )
    configuration = _deployment_configuration(request.get("deploymentConfiguration"), service.deployment_configuration)
    balancers = request["loadBalancers"] if request.get("loadBalancers") is not None else before.load_balancers
    _check_grace_period(request.get("healthCheckGracePeriodSeconds"), balancers)
    _apply_settings(service, request, configuration)
    if request.get("forceNewDeployment") or not _is_same(before, revision):
        if revision is before:
            revision = Revision(**{**vars(before), "arn": _renumbered(before.arn), "created_at": time.time()})
        rollouts.begin(service, revision, time.time())
    controller.changed()
    return {"service": render.service(state, service)}


def _apply_settings(service: Service, request: Json, configuration: Json) -> None:
    service.deployment_configuration = configuration
    if request.get("desiredCount") is not None and request["desiredCount"] != service.desired_count:
        service.desired_count = request["desiredCount"]
        service.is_steady = False
        service.is_stuck = False
    if request.get("healthCheckGracePeriodSeconds") is not None:
        service.health_check_grace_period_seconds = request["healthCheckGracePeriodSeconds"]
    if request.get("enableExecuteCommand") is not None:
        service.enable_execute_command = request["enableExecuteCommand"]
    if request.get("enableECSManagedTags") is not None:
        service.enable_ecs_managed_tags = request["enableECSManagedTags"]
    if request.get("propagateTags") is not None:
        service.propagate_tags = request["propagateTags"]
    if request.get("availabilityZoneRebalancing") is not None:
        service.availability_zone_rebalancing = request["availabilityZoneRebalancing"]


def _renumbered(revision_arn: str) -> str:
    return f"{revision_arn.rpartition('/')[0]}/{new_deployment_number()}"


def _is_same(one: Revision, other: Revision) -> bool:
    def contents(revision: Revision) -> Json:
        return {key: value for key, value in vars(revision).items() if key not in ("arn", "created_at")}

    return contents(one) == contents(other)


def delete_service(state: State, controller: Controller, request: Json) -> Json:
    """DeleteService: DRAINING while tasks stop, then INACTIVE."""
    service = state.service(state.cluster(request.get("cluster")), request["service"])
    if service.status != "ACTIVE":
        raise EcsError("ServiceNotActiveException", "Service was not ACTIVE.")
    if service.desired_count > 0 and not request.get("force"):
        raise invalid_parameter("The service cannot be stopped while it is scaled above 0.")
    now = time.time()
    open_deployment = service.open_service_deployment
    if open_deployment is not None:
        rollouts.stop(open_deployment, "Service deployment was stopped because the service was deleted.", now)
    service.status = "DRAINING"
    service.desired_count = 0
    controller.changed()
    return {"service": render.service(state, service)}


def describe_services(state: State, request: Json) -> Json:
    """DescribeServices; unknown ones are failures, not errors."""
    cluster = state.cluster(request.get("cluster"))
    if not request["services"]:
        raise invalid_parameter("Services cannot be empty.")
    if len(request["services"]) > 10:
        raise invalid_parameter("Services cannot have more than 10 elements.")
    found = [(each, state.find_service(cluster, each)) for each in request["services"]]
    rendered = partial(render.service, state, include=request.get("include") or ())
    return described("services", found, rendered, partial(state.arn_in, "service", cluster))


def list_services(state: State, request: Json) -> Json:
    """ListServices."""
    cluster = state.cluster(request.get("cluster"))
    if request.get("launchType") not in (None, "FARGATE") or request.get("schedulingStrategy") not in (None, "REPLICA"):
        return {"serviceArns": []}
    found = [s.arn for s in state.services.values() if s.cluster_arn == cluster.arn and s.status != "INACTIVE"]
    return page("serviceArns", found, {**request, "maxResults": request.get("maxResults") or 10})
