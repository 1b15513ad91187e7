"""Determines which image serves, from the digests of ECS's tasks and the health of their addresses.

The image does not have to report anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from alva.aws import Aws, explained, pages
from alva.release.manifest import Manifest, Service

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import TaskTypeDef
    from mypy_boto3_elbv2.type_defs import TargetHealthDescriptionTypeDef

DESCRIBED_AT_ONCE = 100
"""The maximum of DescribeTasks. https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html"""


def tasks_of(aws: Aws, manifest: Manifest, service: Service) -> list[TaskTypeDef]:
    """Return the tasks of a service with the desired status RUNNING, including those that start."""
    return _list(aws, manifest, service)


def stopping_tasks_of(aws: Aws, manifest: Manifest, service: Service) -> list[TaskTypeDef]:
    """The tasks that ECS stops for a service: they drain, or their containers end."""
    tasks = _list(aws, manifest, service, desiredStatus="STOPPED")
    return [task for task in tasks if task.get("lastStatus") != "STOPPED"]


def _list(aws: Aws, manifest: Manifest, service: Service, **status: str) -> list[TaskTypeDef]:
    with explained(f"read the tasks of {service.service}"):
        found = pages(
            aws.ecs, "list_tasks", "taskArns", cluster=manifest.cluster, serviceName=service.service, **status
        )
        arns = list(found)
        return [
            task
            for start in range(0, len(arns), DESCRIBED_AT_ONCE)
            for task in aws.ecs.describe_tasks(cluster=manifest.cluster, tasks=arns[start : start + DESCRIBED_AT_ONCE])[
                "tasks"
            ]
        ]


def address_of(task: TaskTypeDef) -> str:
    """Return the private IPv4 address of a task's network interface, which is its target's id; empty until it has
    one.
    """
    details = [detail for attachment in task.get("attachments", []) for detail in attachment.get("details", [])]
    return next((detail.get("value", "") for detail in details if detail.get("name") == "privateIPv4Address"), "")


def digests_of(task: TaskTypeDef, container: str) -> frozenset[str]:
    """Return the digests of a task's container image.

    There are two if the task definition names an index (an image for several architectures): the index's, and that of
    the manifest that runs.
    """
    found = next((each for each in task.get("containers", []) if each.get("name") == container), None)
    if found is None:
        return frozenset()
    _, _, named = found.get("image", "").partition("@")
    return frozenset(digest for digest in (named, found.get("imageDigest")) if digest)


def tasks_run(running: int, desired: int) -> str:
    """Return how many tasks run, as text: "0 of 1 task runs"."""
    return f"{running} of {desired} task runs" if desired == 1 else f"{running} of {desired} tasks run"


def other_images(tasks: Iterable[TaskTypeDef], container: str, digest: str) -> list[str]:
    """Return each running task with another image than `digest`, as text."""
    wrong = []
    for task in tasks:
        digests = digests_of(task, container)
        if task.get("lastStatus") == "RUNNING" and digest not in digests:
            said = " and ".join(sorted(each[7:19] for each in digests)) or "an image without a digest"
            wrong.append(f"task {task['taskArn'].rpartition('/')[2]} runs {said}, not {digest[7:19]}")
    return wrong


def problem_of_targets(targets: Sequence[TargetHealthDescriptionTypeDef], addresses: Collection[str]) -> str | None:
    """Return why the load balancer does not serve from exactly the tasks at these addresses; None if it does.

    A draining target gets no new requests.
    """
    healthy = set()
    for target in targets:
        health, address = target["TargetHealth"], target["Target"]["Id"]
        if health.get("State") == "healthy":
            healthy.add(address)
        elif health.get("State") != "draining":
            said = f"{health.get('Reason', '')} {health.get('Description', '')}".strip()
            return f"{address} is {health.get('State')}: {said}"
    if not healthy:
        return "no target is healthy"
    if strangers := sorted(healthy - set(addresses)):
        return f"{', '.join(strangers)} is healthy, but no running task has this address"
    if missing := sorted(set(addresses) - healthy):
        return f"the task at {', '.join(missing)} is not a target"
    return None
