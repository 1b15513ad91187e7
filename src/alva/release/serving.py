"""Which image serves, as ECS and the load balancer know it: each task's digest, and the health of each task's address.

An image has to say nothing about itself for this.
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
"""Tasks in one DescribeTasks. https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html"""


def tasks_of(aws: Aws, manifest: Manifest, service: Service) -> list[TaskTypeDef]:
    """The tasks that ECS wants to run for a service, and those that it starts for it."""
    return _list(aws, manifest, service)


def stopping_tasks_of(aws: Aws, manifest: Manifest, service: Service) -> list[TaskTypeDef]:
    """The tasks that ECS stops for a service: they drain, or their containers end."""
    tasks = _list(aws, manifest, service, desiredStatus="STOPPED")
    return [task for task in tasks if task.get("lastStatus") != "STOPPED"]


def _list(aws: Aws, manifest: Manifest, service: Service, **status: str) -> list[TaskTypeDef]:
    with explained(f"look at the tasks of {service.service}"):
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
    """The private IPv4 address of a task's network interface, which is its target's id; empty before it has one."""
    details = [detail for attachment in task.get("attachments", []) for detail in attachment.get("details", [])]
    return next((detail.get("value", "") for detail in details if detail.get("name") == "privateIPv4Address"), "")


def digests_of(task: TaskTypeDef, container: str) -> frozenset[str]:
    """The digests by which ECS knows the image of a task's container.

    There are two where the task definition names an index (an image for several architectures): the index's and the
    one of the manifest that runs.
    """
    found = next((each for each in task.get("containers", []) if each.get("name") == container), None)
    if found is None:
        return frozenset()
    _, _, named = found.get("image", "").partition("@")
    return frozenset(digest for digest in (named, found.get("imageDigest")) if digest)


def other_images(tasks: Iterable[TaskTypeDef], container: str, digest: str) -> list[str]:
    """Each running task whose container is not of the image `digest`, in words."""
    wrong = []
    for task in tasks:
        digests = digests_of(task, container)
        if task.get("lastStatus") == "RUNNING" and digest not in digests:
            said = " and ".join(sorted(each[7:19] for each in digests)) or "an image without a digest"
            wrong.append(f"task {task['taskArn'].rpartition('/')[2]} runs {said}, not {digest[7:19]}")
    return wrong


def problem_of_targets(targets: Sequence[TargetHealthDescriptionTypeDef], addresses: Collection[str]) -> str | None:
    """Why the load balancer does not serve from the tasks at these addresses, and from them alone; None if it does.

    A target that is draining gets no new requests.
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
        return f"{', '.join(strangers)} is healthy, and is the address of no task that runs"
    if missing := sorted(set(addresses) - healthy):
        return f"the task at {', '.join(missing)} is no target"
    return None
