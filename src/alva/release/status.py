"""The state of an environment: services, tasks, targets, stacks, alarms."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from alva.aws import Aws, explained
from alva.release import rollout, serving
from alva.release.alarms import read_alarms
from alva.release.drift import Drift, compare
from alva.release.hibernation import Asleep, Hibernation
from alva.release.ledger import Ledger, Release
from alva.release.lock import Holder, Lock
from alva.release.manifest import Manifest, Service
from alva.release.stacks import Stacks

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import DeploymentTypeDef, ServiceTypeDef, TaskTypeDef

EVENTS = 8
"""The number of events to keep per service."""


@dataclass(frozen=True, kw_only=True)
class TaskStatus:
    """One task that starts, runs, drains or stops."""

    task: str
    status: str
    health: str
    address: str
    started_at: datetime | None
    digest: str


@dataclass(frozen=True, kw_only=True)
class TargetStatus:
    """A target of a service."""

    address: str
    state: str
    reason: str
    """Why it is not healthy; empty if there is no reason."""


@dataclass(frozen=True, kw_only=True)
class DeploymentStatus:
    """A deployment of a service."""

    status: str
    """`PRIMARY`, `ACTIVE` or `INACTIVE`."""
    state: str
    """`IN_PROGRESS`, `COMPLETED` or `FAILED`."""
    reason: str
    created_at: datetime | None
    desired: int
    running: int
    pending: int
    failed: int
    task_definition: str
    """Family and revision."""
    digest: str


@dataclass(frozen=True, kw_only=True)
class ServiceEvent:
    """A service event of ECS."""

    at: datetime
    message: str


@dataclass(frozen=True, kw_only=True)
class AlarmStatus:
    """An alarm in the state ALARM."""

    name: str
    """Without the environment's prefix."""
    part: str
    """A service's name, `alb`, `database` or `cache`; empty for an alarm that the templates do not have."""
    description: str
    reason: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """One service."""

    name: str
    desired: int
    running: int
    deployment: str
    """The primary deployment's rollout state, or a problem."""
    digest: str
    since: datetime | None
    """The time of the primary deployment."""
    targets: tuple[TargetStatus, ...]
    tasks: tuple[TaskStatus, ...]
    deployments: tuple[DeploymentStatus, ...] = ()
    events: tuple[ServiceEvent, ...] = ()
    """The newest ones, newest first."""


@dataclass(frozen=True, kw_only=True)
class StackStatus:
    """One stack."""

    name: str
    status: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """An environment."""

    environment: str
    url: str
    services: tuple[ServiceStatus, ...]
    stacks: tuple[StackStatus, ...]
    release: Release | None
    lock: Holder | None
    asleep: Asleep | None = None
    alarms: tuple[AlarmStatus, ...] = ()
    """Alarms in the state ALARM; an alarm without data is not in it."""
    drifts: tuple[Drift, ...] = ()
    """The drift of direct comparisons, without CloudFormation's detection."""


def read_status(aws: Aws, manifest: Manifest, *, with_drift: bool = True) -> Status:
    """Read everything, in parallel. Raises AlvaError.

    Without `with_drift`, the stacks are not compared with their resources, and their templates are not read.
    """
    stacks = Stacks(aws)
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="status") as pool:
        observing = [pool.submit(stacks.observe, stack.name, with_template=with_drift) for stack in manifest.stacks]
        release, lock = pool.submit(Ledger(aws, manifest).latest), pool.submit(Lock(aws, manifest).holder)
        asleep = pool.submit(Hibernation(aws, manifest).state)
        alarms = pool.submit(_alarms, aws, manifest)
        found = rollout.describe_services(aws, manifest)
        services = list(pool.map(lambda s: _service(aws, manifest, s, found.get(s.service)), manifest.services))
        observed = [future.result() for future in observing]
        alb = next((o for o in observed if o is not None and "Url" in o.outputs), None)
        return Status(
            environment=manifest.environment,
            url=alb.outputs["Url"] if alb is not None else "",
            services=tuple(services),
            stacks=tuple(
                StackStatus(name=stack.name, status=o.status if o is not None else "does not exist")
                for stack, o in zip(manifest.stacks, observed, strict=True)
            ),
            release=release.result(),
            lock=lock.result(),
            asleep=asleep.result(),
            alarms=alarms.result(),
            drifts=compare(aws, manifest, {o.name: o for o in observed if o is not None}).drifts if with_drift else (),
        )


def _service(aws: Aws, manifest: Manifest, service: Service, found: ServiceTypeDef | None) -> ServiceStatus:
    if found is None:
        return ServiceStatus(
            name=service.name,
            desired=0,
            running=0,
            deployment="does not exist",
            digest="",
            since=None,
            targets=(),
            tasks=(),
        )
    primary = next((d for d in found.get("deployments", []) if d.get("status") == "PRIMARY"), None)
    targets = tuple(_targets(aws, found))
    tasks = serving.tasks_of(aws, manifest, service)
    if len(found.get("deployments", [])) > 1 or any(target.state == "draining" for target in targets):
        tasks += serving.stopping_tasks_of(aws, manifest, service)
    return ServiceStatus(
        name=service.name,
        desired=found.get("desiredCount", 0),
        running=found.get("runningCount", 0),
        deployment=primary.get("rolloutState", "") if primary is not None else "no deployment",
        digest=rollout.running_digest(aws, found["taskDefinition"], service.name) or "",
        since=primary.get("createdAt") if primary is not None else None,
        targets=targets,
        tasks=tuple(_task(aws, service, task) for task in tasks),
        deployments=tuple(_deployment(aws, service, each) for each in found.get("deployments", [])),
        events=tuple(
            ServiceEvent(at=event["createdAt"], message=event["message"]) for event in found.get("events", [])[:EVENTS]
        ),
    )


def _deployment(aws: Aws, service: Service, deployment: DeploymentTypeDef) -> DeploymentStatus:
    definition = deployment.get("taskDefinition", "")
    return DeploymentStatus(
        status=deployment.get("status", ""),
        state=deployment.get("rolloutState", ""),
        reason=deployment.get("rolloutStateReason", ""),
        created_at=deployment.get("createdAt"),
        desired=deployment.get("desiredCount", 0),
        running=deployment.get("runningCount", 0),
        pending=deployment.get("pendingCount", 0),
        failed=deployment.get("failedTasks", 0),
        task_definition=definition.rpartition("/")[2],
        digest=(rollout.running_digest(aws, definition, service.name) or "") if definition else "",
    )


def _targets(aws: Aws, found: ServiceTypeDef) -> Iterator[TargetStatus]:
    for balancer in found.get("loadBalancers", []):
        with explained("read target health"):
            answer = aws.elbv2.describe_target_health(TargetGroupArn=balancer["targetGroupArn"])
        for target in answer["TargetHealthDescriptions"]:
            health = target["TargetHealth"]
            yield TargetStatus(
                address=target["Target"]["Id"], state=health.get("State", ""), reason=health.get("Description", "")
            )


def _alarms(aws: Aws, manifest: Manifest) -> tuple[AlarmStatus, ...]:
    return tuple(
        AlarmStatus(
            name=alarm["AlarmName"].removeprefix(manifest.alarm_prefix),
            part=manifest.alarms.get(alarm["AlarmName"], ""),
            description=alarm.get("AlarmDescription", ""),
            reason=alarm.get("StateReason", ""),
            since=alarm["StateUpdatedTimestamp"],
        )
        for alarm in read_alarms(aws, manifest, StateValue="ALARM")
    )


def _task(aws: Aws, service: Service, task: TaskTypeDef) -> TaskStatus:
    return TaskStatus(
        task=task["taskArn"].rpartition("/")[2],
        status=task.get("lastStatus", ""),
        health=task.get("healthStatus", ""),
        address=serving.address_of(task),
        started_at=task.get("startedAt"),
        digest=rollout.running_digest(aws, task["taskDefinitionArn"], service.name) or "",
    )
