"""What runs where, and since when."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from alva.aws import Aws, explained
from alva.release import rollout
from alva.release.hibernation import Asleep, Hibernation
from alva.release.ledger import Ledger, Release
from alva.release.lock import Holder, Lock
from alva.release.manifest import Manifest, Service
from alva.release.stacks import Stacks

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import ServiceTypeDef, TaskTypeDef


@dataclass(frozen=True, kw_only=True)
class TaskStatus:
    """One running or starting task."""

    task: str
    status: str
    health: str
    address: str
    started_at: datetime | None
    digest: str


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """One service."""

    name: str
    desired: int
    running: int
    deployment: str
    """The primary deployment's rollout state, or what is wrong."""
    digest: str
    since: datetime | None
    """When what runs now was deployed."""
    targets: tuple[str, ...]
    """A state for each target, as the load balancer has it."""
    tasks: tuple[TaskStatus, ...]


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


def look(aws: Aws, manifest: Manifest) -> Status:
    """Look at everything, side by side."""
    stacks = Stacks(aws)
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="status") as pool:
        observing = [pool.submit(stacks.observe, stack.name, with_template=False) for stack in manifest.stacks]
        release, lock = pool.submit(Ledger(aws, manifest).latest), pool.submit(Lock(aws, manifest).holder)
        asleep = pool.submit(Hibernation(aws, manifest).state)
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
    return ServiceStatus(
        name=service.name,
        desired=found.get("desiredCount", 0),
        running=found.get("runningCount", 0),
        deployment=primary.get("rolloutState", "") if primary is not None else "no deployment",
        digest=rollout.running_digest(aws, found["taskDefinition"], service.name) or "",
        since=primary.get("createdAt") if primary is not None else None,
        targets=tuple(_targets(aws, found)),
        tasks=tuple(_task(aws, service, task) for task in _tasks(aws, manifest, service)),
    )


def _targets(aws: Aws, found: ServiceTypeDef) -> list[str]:
    states = []
    for balancer in found.get("loadBalancers", []):
        with explained("look at target health"):
            answer = aws.elbv2.describe_target_health(TargetGroupArn=balancer["targetGroupArn"])
        states += [target["TargetHealth"].get("State", "") for target in answer["TargetHealthDescriptions"]]
    return states


def _tasks(aws: Aws, manifest: Manifest, service: Service) -> list[TaskTypeDef]:
    with explained(f"look at the tasks of {service.service}"):
        arns = aws.ecs.list_tasks(cluster=manifest.cluster, serviceName=service.service)["taskArns"]
        return aws.ecs.describe_tasks(cluster=manifest.cluster, tasks=arns)["tasks"] if arns else []


def _task(aws: Aws, service: Service, task: TaskTypeDef) -> TaskStatus:
    details = [d for a in task.get("attachments", []) for d in a.get("details", [])]
    return TaskStatus(
        task=task["taskArn"].rpartition("/")[2],
        status=task.get("lastStatus", ""),
        health=task.get("healthStatus", ""),
        address=next((d.get("value", "") for d in details if d.get("name") == "privateIPv4Address"), ""),
        started_at=task.get("startedAt"),
        digest=rollout.running_digest(aws, task["taskDefinitionArn"], service.name) or "",
    )
