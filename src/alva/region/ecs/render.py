"""Converts records to responses of the ECS API: dictionaries in AWS's camelCase, times as seconds since the epoch."""

from __future__ import annotations

from collections.abc import Sequence

from alva.region.ecs import exec_agent
from alva.region.ecs.model import (
    Cluster,
    Deployment,
    DeploymentStatus,
    Json,
    Revision,
    Service,
    ServiceDeployment,
    Task,
    TaskStatus,
    task_health,
)
from alva.region.ecs.state import State


def without_none(record: Json) -> Json:
    """The members that have a value: AWS leaves out the others."""
    return {key: value for key, value in record.items() if value is not None}


def tags_list(state: State, arn: str) -> list[Json]:
    """The tags of a resource as the API lists them."""
    return [{"key": key, "value": value} for key, value in state.tags.get(arn, {}).items()]


def cluster(state: State, record: Cluster, include: Sequence[str] = ()) -> Json:
    """A cluster, as DescribeClusters shows it."""
    tasks = [t for t in state.tasks.values() if t.cluster_arn == record.arn]
    shown: Json = {
        "clusterArn": record.arn,
        "clusterName": record.name,
        "status": record.status,
        "registeredContainerInstancesCount": 0,
        "runningTasksCount": _running(tasks),
        "pendingTasksCount": _pending(tasks),
        "activeServicesCount": sum(
            1 for s in state.services.values() if s.cluster_arn == record.arn and s.status == "ACTIVE"
        ),
        "statistics": [],
        "capacityProviders": record.capacity_providers,
        "defaultCapacityProviderStrategy": record.default_capacity_provider_strategy,
        "tags": tags_list(state, record.arn) if "TAGS" in include else [],
        "settings": record.settings if "SETTINGS" in include else [],
    }
    if "CONFIGURATIONS" in include and record.configuration is not None:
        shown["configuration"] = record.configuration
    return shown


def _running(tasks: Sequence[Task]) -> int:
    # A draining task still runs, and counts as running.
    return sum(1 for t in tasks if t.last_status in (TaskStatus.RUNNING, TaskStatus.DEACTIVATING))


def _pending(tasks: Sequence[Task]) -> int:
    return sum(1 for t in tasks if t.last_status.is_before_running and not t.is_stopping)


def task(state: State, record: Task, include: Sequence[str] = ()) -> Json:
    """A task, as DescribeTasks shows it."""
    definition = state.task_definitions[record.task_definition_arn]
    checked = {c["name"] for c in definition["containerDefinitions"] if c.get("healthCheck")}
    return without_none(
        {
            "attachments": [_attachment(record)],
            "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
            "availabilityZone": record.availability_zone,
            "capacityProviderName": record.capacity_provider,
            "clusterArn": record.cluster_arn,
            "connectivity": "CONNECTED" if record.connectivity_at else None,
            "connectivityAt": record.connectivity_at,
            "containers": _containers(record, checked),
            "cpu": record.overrides.get("cpu") or definition.get("cpu"),
            "createdAt": record.created_at,
            "desiredStatus": record.desired_status,
            "enableExecuteCommand": record.enable_execute_command,
            "ephemeralStorage": definition.get("ephemeralStorage") or {"sizeInGiB": 20},
            "executionStoppedAt": record.execution_stopped_at,
            "group": record.group,
            "healthStatus": str(task_health(record, checked)),
            "lastStatus": str(record.last_status),
            "launchType": record.launch_type,
            "memory": record.overrides.get("memory") or definition.get("memory"),
            "overrides": _overrides(record),
            "platformFamily": "Linux",
            "platformVersion": record.platform_version,
            "pullStartedAt": record.pull_started_at,
            "pullStoppedAt": record.pull_stopped_at,
            "startedAt": record.started_at,
            "startedBy": record.started_by,
            "stopCode": record.stop_code,
            "stoppedAt": record.stopped_at,
            "stoppedReason": record.stopped_reason,
            "stoppingAt": record.stopping_at,
            "tags": tags_list(state, record.arn) if "TAGS" in include else [],
            "taskArn": record.arn,
            "taskDefinitionArn": record.task_definition_arn,
            "version": record.version,
        }
    )


def _attachment(record: Task) -> Json:
    address = record.address or ""
    details = {
        "subnetId": record.subnet_id or record.subnets[0],
        "networkInterfaceId": record.interface_id,
        "macAddress": record.mac_address,
        "privateDnsName": f"ip-{address.replace('.', '-')}.ec2.internal" if address else None,
        "privateIPv4Address": record.address,
    }
    return {
        "id": record.attachment_id or record.id,
        "type": "ElasticNetworkInterface",
        "status": record.attachment_status,
        "details": [{"name": name, "value": value} for name, value in details.items() if value is not None],
    }


def _containers(record: Task, checked: set[str]) -> list[Json]:
    attachment_id = record.attachment_id or record.id
    interfaces = [{"attachmentId": attachment_id, "privateIpv4Address": record.address}] if record.address else []
    return [
        without_none(
            {
                "containerArn": c.arn,
                "taskArn": record.arn,
                "name": c.name,
                "image": c.image,
                "imageDigest": c.image_digest,
                "runtimeId": c.runtime_id,
                "lastStatus": c.last_status,
                "exitCode": c.exit_code,
                "reason": c.reason,
                "networkBindings": [],
                "networkInterfaces": interfaces,
                "healthStatus": str(c.health) if c.name in checked else "UNKNOWN",
                "cpu": c.cpu,
                "memory": c.memory,
                "memoryReservation": c.memory_reservation,
                "managedAgents": exec_agent.status(c) or None,
            }
        )
        for c in record.containers
    ]


def _overrides(record: Task) -> Json:
    given = {o["name"]: o for o in record.overrides.get("containerOverrides") or []}
    return {
        **record.overrides,
        "containerOverrides": [given.get(c.name, {"name": c.name}) for c in record.containers],
        "inferenceAcceleratorOverrides": [],
    }


def service(state: State, record: Service, include: Sequence[str] = ()) -> Json:
    """A service, as DescribeServices shows it."""
    tasks = state.tasks_of(record)
    revision = record.revision(record.primary.revision_arn) if record.deployments else record.revisions[-1]
    open_deployment = record.open_service_deployment
    return without_none(
        {
            "serviceArn": record.arn,
            "serviceName": record.name,
            "clusterArn": record.cluster_arn,
            "loadBalancers": revision.load_balancers,
            "serviceRegistries": revision.service_registries,
            "status": record.status,
            "desiredCount": record.desired_count,
            "runningCount": _running(tasks),
            "pendingCount": _pending(tasks),
            "launchType": revision.launch_type,
            "capacityProviderStrategy": revision.capacity_provider_strategy or None,
            "platformVersion": "LATEST",
            "platformFamily": "Linux",
            "taskDefinition": revision.task_definition_arn,
            "deploymentConfiguration": record.deployment_configuration,
            "deployments": [deployment(record, d, tasks) for d in record.deployments],
            "roleArn": f"arn:aws:iam::{state.account_id}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS",
            "events": record.events,
            "createdAt": record.created_at,
            "createdBy": record.created_by,
            "currentServiceDeployment": open_deployment.arn if open_deployment else None,
            "currentServiceRevisions": [
                _revision_summary(record, d.revision_arn, tasks) | {"arn": d.revision_arn} for d in record.deployments
            ],
            "placementConstraints": [],
            "placementStrategy": [],
            "networkConfiguration": revision.network_configuration,
            "healthCheckGracePeriodSeconds": record.health_check_grace_period_seconds,
            "schedulingStrategy": "REPLICA",
            "deploymentController": {"type": "ECS"},
            "enableECSManagedTags": record.enable_ecs_managed_tags,
            "propagateTags": record.propagate_tags,
            "enableExecuteCommand": record.enable_execute_command,
            "availabilityZoneRebalancing": record.availability_zone_rebalancing,
            "tags": tags_list(state, record.arn) if "TAGS" in include else None,
        }
    )


def deployment(owner: Service, record: Deployment, tasks: Sequence[Task]) -> Json:
    """An entry of a service's `deployments`."""
    mine = [t for t in tasks if t.started_by == record.id]
    revision = owner.revision(record.revision_arn)
    is_primary = record.status is DeploymentStatus.PRIMARY
    return without_none(
        {
            "id": record.id,
            "status": str(record.status),
            "taskDefinition": revision.task_definition_arn,
            "desiredCount": owner.desired_count if is_primary else sum(1 for t in mine if not t.is_stopping),
            "pendingCount": _pending(mine),
            "runningCount": _running(mine),
            "failedTasks": record.failed_tasks,
            "createdAt": record.created_at,
            "updatedAt": record.updated_at,
            "launchType": revision.launch_type,
            "capacityProviderStrategy": revision.capacity_provider_strategy or None,
            "platformVersion": revision.platform_version,
            "platformFamily": "Linux",
            "networkConfiguration": revision.network_configuration,
            "rolloutState": str(record.rollout_state),
            "rolloutStateReason": record.rollout_state_reason,
        }
    )


def _revision_summary(owner: Service, revision_arn: str, tasks: Sequence[Task]) -> Json:
    ids = {d.id for d in owner.deployments if d.revision_arn == revision_arn}
    is_wanted = any(d.status is DeploymentStatus.PRIMARY and d.id in ids for d in owner.deployments)
    mine = [t for t in tasks if t.started_by in ids]
    return {
        "requestedTaskCount": owner.desired_count if is_wanted else 0,
        "runningTaskCount": _running(mine),
        "pendingTaskCount": _pending(mine),
    }


def service_deployment(state: State, owner: Service, record: ServiceDeployment) -> Json:
    """A service deployment, as DescribeServiceDeployments shows it."""
    tasks = state.tasks_of(owner)
    return without_none(
        {
            "serviceDeploymentArn": record.arn,
            "serviceArn": owner.arn,
            "clusterArn": owner.cluster_arn,
            "createdAt": record.created_at,
            "startedAt": record.started_at,
            "finishedAt": record.finished_at,
            "stoppedAt": record.stopped_at,
            "updatedAt": record.updated_at,
            "sourceServiceRevisions": [
                {"arn": arn, **_revision_summary(owner, arn, tasks)} for arn in record.source_revision_arns
            ],
            "targetServiceRevision": {
                "arn": record.target_revision_arn,
                **_revision_summary(owner, record.target_revision_arn, tasks),
            },
            "status": str(record.status),
            "statusReason": record.status_reason,
            "deploymentConfiguration": record.deployment_configuration,
            "rollback": record.rollback,
            "deploymentCircuitBreaker": {
                "status": record.breaker_status,
                "failureCount": record.breaker_failures,
                "threshold": record.breaker_threshold,
            },
            "alarms": {
                "status": record.alarms_status,
                "alarmNames": (record.deployment_configuration.get("alarms") or {}).get("alarmNames", []),
                "triggeredAlarmNames": record.triggered_alarms,
            },
        }
    )


def service_deployment_brief(owner: Service, record: ServiceDeployment) -> Json:
    """A service deployment, as ListServiceDeployments shows it."""
    return without_none(
        {
            "serviceDeploymentArn": record.arn,
            "serviceArn": owner.arn,
            "clusterArn": owner.cluster_arn,
            "createdAt": record.created_at,
            "startedAt": record.started_at,
            "finishedAt": record.finished_at,
            "targetServiceRevisionArn": record.target_revision_arn,
            "status": str(record.status),
            "statusReason": record.status_reason,
        }
    )


def revision(state: State, owner: Service, record: Revision) -> Json:
    """A service revision, as DescribeServiceRevisions shows it."""
    definition = state.task_definitions[record.task_definition_arn]
    ids = {d.id for d in owner.deployments if d.revision_arn == record.arn}
    digests = {
        c.name: c.image_digest
        for t in state.tasks_of(owner)
        if t.started_by in ids
        for c in t.containers
        if c.image_digest
    }
    return without_none(
        {
            "serviceRevisionArn": record.arn,
            "serviceArn": owner.arn,
            "clusterArn": owner.cluster_arn,
            "taskDefinition": record.task_definition_arn,
            "capacityProviderStrategy": record.capacity_provider_strategy or None,
            "launchType": record.launch_type,
            "platformVersion": record.platform_version,
            "platformFamily": "Linux",
            "loadBalancers": record.load_balancers,
            "serviceRegistries": record.service_registries,
            "networkConfiguration": record.network_configuration,
            "containerImages": [
                without_none({"containerName": c["name"], "image": c["image"], "imageDigest": digests.get(c["name"])})
                for c in definition["containerDefinitions"]
            ],
            "guardDutyEnabled": False,
            "createdAt": record.created_at,
        }
    )
