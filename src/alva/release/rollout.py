"""The services, all in one update of their stack, and the truth about what runs afterwards.

CloudFormation's UPDATE_COMPLETE is not taken as proof: DescribeServiceDeployments must say SUCCESSFUL for the digest
that was asked for, and no task of another task definition may be left.
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
from alva.release.stack_state import ObservedStack
from alva.release.stacks import Stacks

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import ServiceDeploymentBriefTypeDef, ServiceDeploymentTypeDef, ServiceTypeDef

Line = Callable[[str], None]

SERVICE_TYPE = "AWS::ECS::Service"
"""What fails in a stack when the tasks of a service do not become healthy."""

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
    """Update the services of one stack together and return when what was asked for is all that runs.

    Raises RolledBack when the stack could not be updated, TimedOut at the deadline, RollbackFailed when CloudFormation
    could not take its update back. Whether everything runs again what it ran is for the caller to see.
    """
    stacks = Stacks(aws, timeout_seconds=timeout_seconds)
    events = ServiceEvents(aws, manifest, line)
    events.skip_to_now()
    try:
        stacks.apply(stack_name, template, parameters, manifest.tags, line, while_waiting=events.show)
    except StackFailed as error:
        events.show()
        # A change set that cannot be made, or a listener rule that fails, says nothing about the new version.
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
    """Return when each service runs its digest, and nothing else, and every deployment since then is SUCCESSFUL.

    Raises RolledBack naming the services that run something else.
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
        all_confirmed, timeout_seconds=timeout_seconds, what=f"the old tasks of {', '.join(pending)} to be gone"
    )


def describe_services(aws: Aws, manifest: Manifest) -> dict[str, ServiceTypeDef]:
    """The environment's ECS services by name; without those that do not exist."""
    names = [service.service for service in manifest.services]
    found: dict[str, ServiceTypeDef] = {}
    with explained(f"look at the services of cluster {manifest.cluster}"):
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
    """The digest that a task definition's container runs, or None when it is not named by digest."""
    return aws.once(TaskDefinitionImages).digest(task_definition, container)


class TaskDefinitionImages:
    """The images of task definitions by ARN. A revision never changes, so each is asked for once.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/update-task-definition-console-v2.html
    """

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._images: dict[str, dict[str, str]] = {}
        """Task definition ARN -> container -> image."""

    def digest(self, task_definition: str, container: str) -> str | None:
        """The digest of a container's image, or None when it is not named by digest. Raises AlvaError."""
        if task_definition not in self._images:
            with explained(f"read task definition {task_definition}"):
                found = self._aws.ecs.describe_task_definition(taskDefinition=task_definition)["taskDefinition"]
            containers = found.get("containerDefinitions", [])
            self._images[task_definition] = {each["name"]: each.get("image", "") for each in containers}
        image = self._images[task_definition].get(container, "")
        return image.rpartition("@")[2] if "@" in image else None

    def forget(self) -> None:
        """Ask again: a local region that was wiped counts revisions from 1."""
        self._images = {}


def last_deployment(aws: Aws, manifest: Manifest, service: Service) -> ServiceDeploymentTypeDef | None:
    """The service's newest service deployment; None when ECS keeps none (they are kept for 90 days)."""
    with explained(f"look at the deployments of {service.service}"):
        # ListServiceDeployments promises no order, so the newest may be on any page.
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
    """Why the service is not there yet, or None; raises RolledBack when it never will be."""
    deployment = last_deployment(aws, manifest, service)
    if deployment is not None:
        status = deployment["status"]
        if status not in DEPLOYMENT_ENDED:
            return f"its deployment is {status}"
        # An older one may have been rolled back: what counts for it is below, what the service runs.
        if status != "SUCCESSFUL" and deployment["createdAt"] >= since:
            raise RolledBack(
                f"cannot release {service.name}: its deployment ended as {status}",
                evidence=[deployment.get("statusReason", "")],
            )
    runs = running_digest(aws, found["taskDefinition"], service.name)
    if runs != digest:
        raise RolledBack(
            f"cannot release {service.name}: it runs another image than was asked for",
            evidence=[f"asked for {digest}", f"runs {runs}"],
        )
    if len(found.get("deployments", [])) > 1:
        return "old tasks are still there"
    if found.get("runningCount", 0) < found.get("desiredCount", 0):
        return f"{found.get('runningCount', 0)} of {found.get('desiredCount', 0)} tasks run"
    return None


def go_back(aws: Aws, previous: ObservedStack, line: Line) -> bool:
    """Return all services to the previous release, as a group; False when they were there already.

    Raises RollbackFailed when that fails too.
    """
    stacks = Stacks(aws)
    try:
        return stacks.apply(previous.name, previous.template, previous.parameters, previous.tags, line)
    except StackFailed as error:
        raise RollbackFailed("cannot go back to the previous release", evidence=error.evidence) from error


@dataclass
class ServiceEvents:
    """What ECS says about the services while they are rolled out, each event once."""

    aws: Aws
    manifest: Manifest
    line: Line
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    _shown: set[str] = field(default_factory=set)
    _counts: dict[str, str] = field(default_factory=dict)

    def skip_to_now(self) -> None:
        """Take what was said so far as known."""
        for service in describe_services(self.aws, self.manifest).values():
            self._shown |= {event["id"] for event in service.get("events", [])}

    def show(self) -> None:
        """Pass on what is new."""
        try:
            services = describe_services(self.aws, self.manifest)
        except AlvaError:
            return  # events are a comfort: what matters is looked at by others
        for service in services.values():
            for event in reversed(service.get("events", [])):
                if event["id"] not in self._shown:
                    self._shown.add(event["id"])
                    self.line(event["message"])
            self._show_counts(service)

    def _show_counts(self, service: ServiceTypeDef) -> None:
        """Old and new tasks, when they are others than the last time."""
        counts = task_counts(service)
        if counts is not None and counts != self._counts.get(service["serviceName"]):
            self._counts[service["serviceName"]] = counts
            self.line(counts)


def task_counts(service: ServiceTypeDef) -> str | None:
    """How many new and old tasks a service has while it is rolled out; None when nothing is under way."""
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
