"""Updates all services of a stack together, then verifies with ECS what runs.

CloudFormation's UPDATE_COMPLETE is not proof: DescribeServiceDeployments must report SUCCESSFUL for the requested
digest, and no task of another task definition may remain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from alva.aws import Aws, error_code, explained
from alva.errors import AlvaError, RollbackFailed, RolledBack, StackFailed
from alva.release.manifest import Manifest, Service
from alva.release.serving import tasks_run
from alva.release.stack_state import ObservedStack
from alva.release.stacks import Stacks

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import ServiceDeploymentBriefTypeDef, ServiceDeploymentTypeDef, ServiceTypeDef

Line = Callable[[str], None]

SERVICE_TYPE = "AWS::ECS::Service"
"""The resource that fails when a service's tasks do not become healthy."""

DEPLOYMENT_ENDED = ("SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED")


def roll_out(
    aws: Aws,
    manifest: Manifest,
    stack_name: str,
    template: Mapping[str, Any],
    parameters: Mapping[str, str],
    line: Line,
    *,
    timeout_seconds: float,
) -> None:
    """Update the services of one stack together; return when only the requested images run.

    Raises RolledBack when the stack could not be updated, TimedOut at the deadline, RollbackFailed when CloudFormation
    could not roll back. The caller verifies the former version.
    """
    stacks = Stacks(aws, timeout_seconds=timeout_seconds)
    events = ServiceEvents(aws, manifest, line)
    events.skip_to_now()
    try:
        stacks.apply(stack_name, template, parameters, manifest.tags, line, while_waiting=events.show)
    except StackFailed as error:
        events.show()
        # An invalid change set or a failed listener rule is not a fault of the new version.
        is_the_version = any(f"({SERVICE_TYPE})" in line for line in error.evidence)
        message = "cannot release: the new version does not run" if is_the_version else error.message
        raise RolledBack(message, evidence=error.evidence) from error
    declared = template.get("Parameters", {})
    expected = {
        service.name: parameters[service.image_parameter]
        for service in manifest.services
        if service.image_parameter in parameters and service.image_parameter in declared
    }
    confirm(aws, manifest, expected, line, since=events.since)


def confirm(
    aws: Aws,
    manifest: Manifest,
    digests: Mapping[str, str],
    line: Line,
    *,
    since: datetime,
    timeout_seconds: float = 300,
) -> None:
    """Return when each service runs only its digest, and each deployment since then is SUCCESSFUL.

    Raises RolledBack with the services that run another image.
    """
    pending = dict(digests)

    def all_confirmed() -> bool | None:
        services = describe_services(aws, manifest)

        def problem(name: str) -> str | None:
            service = manifest.service(name)
            found = services.get(service.service)
            if found is None:
                raise RolledBack(f"cannot release {name}: ECS has no service {service.service}")
            return _problem(aws, manifest, service, found, digests[name], since)

        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="confirm") as pool:
            problems = dict(zip(pending, pool.map(problem, pending), strict=True))
        for name, said in problems.items():
            if said is None:
                line(f"{name} runs {digests[name][7:19]}")
                del pending[name]
        return True if not pending else None

    aws.poll.until(
        all_confirmed, timeout_seconds=timeout_seconds, what=f"the former tasks of {', '.join(pending)} to stop"
    )


def describe_services(aws: Aws, manifest: Manifest) -> dict[str, ServiceTypeDef]:
    """Return the environment's existing ECS services by name."""
    names = [service.service for service in manifest.services]
    found: dict[str, ServiceTypeDef] = {}
    with explained(f"read the services of cluster {manifest.cluster}"):
        try:
            for start in range(0, len(names), 10):  # DescribeServices takes ten at a time
                answer = aws.ecs.describe_services(cluster=manifest.cluster, services=names[start : start + 10])
                found |= {s["serviceName"]: s for s in answer["services"] if s.get("status") == "ACTIVE"}
        except Exception as error:
            if error_code(error) == "ClusterNotFoundException":
                return {}
            raise
    return found


def running_digest(aws: Aws, task_definition: str, container: str) -> str | None:
    """Return the digest of a task definition's container; None if its image has no digest."""
    return aws.once(TaskDefinitionImages).digest(task_definition, container)


class TaskDefinitionImages:
    """The images of task definitions by ARN. Revisions are immutable, so each is read once.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/update-task-definition-console-v2.html
    """

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._images: dict[str, dict[str, str]] = {}
        """Task definition ARN -> container -> image."""

    def digest(self, task_definition: str, container: str) -> str | None:
        """Return the digest of a container's image; None if it has no digest. Raises AlvaError."""
        if task_definition not in self._images:
            with explained(f"read task definition {task_definition}"):
                found = self._aws.ecs.describe_task_definition(taskDefinition=task_definition)["taskDefinition"]
            containers = found.get("containerDefinitions", [])
            self._images[task_definition] = {each["name"]: each.get("image", "") for each in containers}
        image = self._images[task_definition].get(container, "")
        return image.rpartition("@")[2] if "@" in image else None

    def forget(self) -> None:
        """Clear the cache: a wiped local region starts again with revision 1."""
        self._images = {}


def last_deployment(aws: Aws, manifest: Manifest, service: Service) -> ServiceDeploymentTypeDef | None:
    """Return the service's newest service deployment; None if ECS has none (it keeps them for 90 days)."""
    with explained(f"read the deployments of {service.service}"):
        # ListServiceDeployments does not document an order, so the newest can be on any page.
        # https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListServiceDeployments.html
        briefs: list[ServiceDeploymentBriefTypeDef] = []
        token: dict[str, Any] = {}
        while True:
            page = aws.ecs.list_service_deployments(
                cluster=manifest.cluster, service=service.service, maxResults=100, **token
            )
            briefs += page["serviceDeployments"]
            if not page.get("nextToken"):
                break
            token = {"nextToken": page["nextToken"]}
        if not briefs:
            return None
        newest = max(briefs, key=lambda brief: brief["createdAt"])
        return aws.ecs.describe_service_deployments(serviceDeploymentArns=[newest["serviceDeploymentArn"]])[
            "serviceDeployments"
        ][0]


def _problem(
    aws: Aws, manifest: Manifest, service: Service, found: ServiceTypeDef, digest: str, since: datetime
) -> str | None:
    """Return why the service is not ready, or None if it is; raises RolledBack when it cannot become ready."""
    deployment = last_deployment(aws, manifest, service)
    if deployment is not None:
        status = deployment["status"]
        if status not in DEPLOYMENT_ENDED:
            return f"its last deployment is {status}"
        # An older deployment may have been rolled back; what the service runs is checked below.
        if status != "SUCCESSFUL" and deployment["createdAt"] >= since:
            raise RolledBack(
                f"cannot release {service.name}: its last deployment is {status}",
                evidence=[deployment.get("statusReason", "")],
            )
    runs = running_digest(aws, found["taskDefinition"], service.name)
    if runs != digest:
        raise RolledBack(
            f"cannot release {service.name}: it runs another image than requested",
            evidence=[f"requested {digest}", f"runs {runs}"],
        )
    if len(found.get("deployments", [])) > 1:
        return "former tasks still run"
    if found.get("runningCount", 0) < found.get("desiredCount", 0):
        return tasks_run(found.get("runningCount", 0), found.get("desiredCount", 0))
    return None


def roll_back(aws: Aws, previous: ObservedStack, line: Line) -> bool:
    """Roll back all services of the stack together; False if they were rolled back already.

    Raises RollbackFailed if that fails.
    """
    stacks = Stacks(aws)
    try:
        return stacks.apply(previous.name, previous.template, previous.parameters, previous.tags, line)
    except StackFailed as error:
        raise RollbackFailed(
            "cannot roll back to the former version",
            evidence=error.evidence,
            next_step="./alva why; ./alva deploy releases again",
        ) from error


@dataclass
class ServiceEvents:
    """The events of the services during a rollout, each once."""

    aws: Aws
    manifest: Manifest
    line: Line
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    _shown: set[str] = field(default_factory=set)
    _counts: dict[str, str] = field(default_factory=dict)

    def skip_to_now(self) -> None:
        """Mark all events so far as seen."""
        for service in describe_services(self.aws, self.manifest).values():
            self._shown |= {event["id"] for event in service.get("events", [])}

    def show(self) -> None:
        """Report new events."""
        try:
            services = describe_services(self.aws, self.manifest)
        except AlvaError:
            return  # events only inform: other code checks the deployment
        for service in services.values():
            for event in reversed(service.get("events", [])):
                if event["id"] not in self._shown:
                    self._shown.add(event["id"])
                    self.line(event["message"])
            self._show_counts(service)

    def _show_counts(self, service: ServiceTypeDef) -> None:
        """Report the numbers of old and new tasks when they changed."""
        counts = task_counts(service)
        if counts is not None and counts != self._counts.get(service["serviceName"]):
            self._counts[service["serviceName"]] = counts
            self.line(counts)


def task_counts(service: ServiceTypeDef) -> str | None:
    """Return the numbers of new and old tasks during a rollout; None outside of one."""
    deployments = service.get("deployments", [])
    primary = next((d for d in deployments if d.get("status") == "PRIMARY"), None)
    if primary is None or primary.get("rolloutState") == "COMPLETED":
        return None
    old = sum(d.get("runningCount", 0) for d in deployments if d is not primary)
    failed = f", {primary['failedTasks']} failed" if primary.get("failedTasks") else ""
    return (
        f"{service['serviceName']}: {primary.get('runningCount', 0)} of {primary.get('desiredCount', 0)} new tasks run"
        f"{failed}, {old} old"
    )
