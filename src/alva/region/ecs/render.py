"""Converts records to responses of the ECS API: dictionaries in AWS's camelCase, times as seconds since the epoch.

A field whose name is a member of AWS's output shape in snake_case is shown unchanged; the functions here add the other
members.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from botocore import xform_name
from botocore.model import StructureShape

from alva.region.constraints import service_model
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


def _shown(shape: str, own: Json, *records: object) -> Json:
    """The members of an output shape: those of `own`, and the fields of the first record that has them. AWS leaves out
    members without a value.
    """
    values = {
        name: own[name]
        if name in own
        else next((getattr(each, field) for each in records if hasattr(each, field)), None)
        for name, field in _fields(shape).items()
    }
    return without_none(values)


@functools.cache
def _fields(shape: str) -> dict[str, str]:
    """The members of an output shape, each with its name in snake_case."""
    found = service_model("ecs").shape_for(shape)
    assert isinstance(found, StructureShape)  # noqa: S101 - every shape here is one
    return {name: xform_name(name) for name in found.members}


def tags_list(state: State, arn: str) -> list[Json]:
    """The tags of a resource as the API lists them."""
    return [{"key": key, "value": value} for key, value in state.tags.get(arn, {}).items()]


def cluster(state: State, record: Cluster, include: Sequence[str] = ()) -> Json:
    """A cluster, as DescribeClusters shows it."""
    tasks = [t for t in state.tasks.values() if t.cluster_arn == record.arn]
    own = {
        "clusterArn": record.arn,
        "clusterName": record.name,
        "registeredContainerInstancesCount": 0,
        "runningTasksCount": _running(tasks),
        "pendingTasksCount": _pending(tasks),
        "activeServicesCount": sum(
            1 for s in state.services.values() if s.cluster_arn == record.arn and s.status == "ACTIVE"
        ),
        "statistics": [],
        "tags": tags_list(state, record.arn) if "TAGS" in include else [],
        "settings": record.settings if "SETTINGS" in include else [],
        "configuration": record.configuration if "CONFIGURATIONS" in include else None,
    }
    return _shown("Cluster", own, record)


def _running(tasks: Sequence[Task]) -> int:
    # A draining task still runs, and counts as running.
    return sum(1 for t in tasks if t.last_status in (TaskStatus.RUNNING, TaskStatus.DEACTIVATING))


def _pending(tasks: Sequence[Task]) -> int:
    return sum(1 for t in tasks if t.last_status.is_before_running and not t.is_stopping)


def task(state: State, record: Task, include: Sequence[str] = ()) -> Json:
    """A task, as DescribeTasks shows it."""
    definition = state.task_definitions[record.task_definition_arn]
    checked = {c["name"] for c in definition["containerDefinitions"] if c.get("healthCheck")}
    own = {
        "attachments": [_attachment(record)],
        "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
        "capacityProviderName": record.capacity_provider,
        "connectivity": "CONNECTED" if record.connectivity_at else None,
        "containers": _containers(record, checked),
        "cpu": record.overrides.get("cpu") or definition.get("cpu"),
        "ephemeralStorage": definition.get("ephemeralStorage") or {"sizeInGiB": 20},
        "healthStatus": str(task_health(record, checked)),
        "memory": record.overrides.get("memory") or definition.get("memory"),
        "overrides": _overrides(record),
        "platformFamily": "Linux",
        "tags": tags_list(state, record.arn) if "TAGS" in include else [],
        "taskArn": record.arn,
    }
    return _shown("Task", own, record)


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
        _shown(
            "Container",
            {
                "containerArn": c.arn,
                "taskArn": record.arn,
                "networkBindings": [],
                "networkInterfaces": interfaces,
                "healthStatus": str(c.health) if c.name in checked else "UNKNOWN",
                "managedAgents": exec_agent.status(c) or None,
            },
            c,
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
    own = {
        "serviceArn": record.arn,
        "serviceName": record.name,
        "runningCount": _running(tasks),
        "pendingCount": _pending(tasks),
        "capacityProviderStrategy": revision.capacity_provider_strategy or None,
        "platformVersion": "LATEST",
        "platformFamily": "Linux",
        "taskDefinition": revision.task_definition_arn,
        "deployments": [deployment(record, d, tasks) for d in record.deployments],
        "roleArn": f"arn:aws:iam::{state.account_id}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS",
        "currentServiceDeployment": open_deployment.arn if open_deployment else None,
        "currentServiceRevisions": [
            _revision_summary(record, d.revision_arn, tasks) | {"arn": d.revision_arn} for d in record.deployments
        ],
        "placementConstraints": [],
        "placementStrategy": [],
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "tags": tags_list(state, record.arn) if "TAGS" in include else None,
    }
    return _shown("Service", own, record, revision)


def deployment(owner: Service, record: Deployment, tasks: Sequence[Task]) -> Json:
    """An entry of a service's `deployments`."""
    mine = [t for t in tasks if t.started_by == record.id]
    revision = owner.revision(record.revision_arn)
    is_primary = record.status is DeploymentStatus.PRIMARY
    own = {
        "taskDefinition": revision.task_definition_arn,
        "desiredCount": owner.desired_count if is_primary else sum(1 for t in mine if not t.is_stopping),
        "pendingCount": _pending(mine),
        "runningCount": _running(mine),
        "capacityProviderStrategy": revision.capacity_provider_strategy or None,
        "platformFamily": "Linux",
    }
    return _shown("Deployment", own, record, revision)


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
    own = {
        "serviceDeploymentArn": record.arn,
        "serviceArn": owner.arn,
        "sourceServiceRevisions": [
            {"arn": arn, **_revision_summary(owner, arn, tasks)} for arn in record.source_revision_arns
        ],
        "targetServiceRevision": {
            "arn": record.target_revision_arn,
            **_revision_summary(owner, record.target_revision_arn, tasks),
        },
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
    return _shown("ServiceDeployment", own, record, owner)


def service_deployment_brief(owner: Service, record: ServiceDeployment) -> Json:
    """A service deployment, as ListServiceDeployments shows it."""
    own = {
        "serviceDeploymentArn": record.arn,
        "serviceArn": owner.arn,
        "targetServiceRevisionArn": record.target_revision_arn,
    }
    return _shown("ServiceDeploymentBrief", own, record, owner)


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
    own = {
        "serviceRevisionArn": record.arn,
        "serviceArn": owner.arn,
        "taskDefinition": record.task_definition_arn,
        "capacityProviderStrategy": record.capacity_provider_strategy or None,
        "platformFamily": "Linux",
        "containerImages": [
            without_none({"containerName": c["name"], "image": c["image"], "imageDigest": digests.get(c["name"])})
            for c in definition["containerDefinitions"]
        ],
        "guardDutyEnabled": False,
    }
    return _shown("ServiceRevision", own, record, owner)
