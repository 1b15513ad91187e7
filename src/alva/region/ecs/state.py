"""ECS's state: all records, look-ups with AWS's errors, and conversion to and from JSON."""

from __future__ import annotations

import secrets
import time
import uuid
from dataclasses import dataclass, field

from alva.region.ecs.errors import EcsError, client_error, cluster_not_found, invalid_parameter, service_not_found
from alva.region.ecs.model import Cluster, Json, Service, Task, from_state

STOPPED_TASKS_KEPT_SECONDS = 3600.0
"""AWS shows stopped tasks for at least an hour (DescribeTasks)."""

EVENTS_KEPT = 100
"""`events` of DescribeServices: "A maximum of 100 of the latest events are displayed"."""


@dataclass
class State:
    """The records of one account in one region."""

    account_id: str
    region: str
    clusters: dict[str, Cluster] = field(default_factory=dict)
    """By name. INACTIVE ones are kept, since AWS shows them for a while."""
    task_definitions: dict[str, Json] = field(default_factory=dict)
    """By ARN, as DescribeTaskDefinition returns them."""
    revisions: dict[str, int] = field(default_factory=dict)
    """The last revision number that each family has used."""
    services: dict[str, Service] = field(default_factory=dict)
    """By ARN. INACTIVE ones are kept until their name is used again."""
    tasks: dict[str, Task] = field(default_factory=dict)
    """By ARN."""
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    """By ARN."""

    def arn(self, kind: str, *parts: str) -> str:
        """An ECS ARN: `arn("service", cluster, name)`."""
        return f"arn:aws:ecs:{self.region}:{self.account_id}:{'/'.join((kind, *parts))}"

    def arn_in(self, kind: str, cluster: Cluster, name_or_arn: str) -> str:
        """The ARN that a name in the cluster, or an ARN, refers to."""
        return name_or_arn if name_or_arn.startswith("arn:") else self.arn(kind, cluster.name, name_or_arn)

    # Look-up functions

    def cluster(self, name_or_arn: str | None) -> Cluster:
        """The ACTIVE cluster of that name or ARN ("default" when None); ClusterNotFoundException otherwise."""
        cluster = self.clusters.get((name_or_arn or "default").rpartition("/")[2])
        if cluster is None or cluster.status != "ACTIVE":
            raise cluster_not_found()
        return cluster

    def find_service(self, cluster: Cluster, name_or_arn: str) -> Service | None:
        """The service of that name or ARN in the cluster, ACTIVE, DRAINING or INACTIVE."""
        service = self.services.get(self.arn("service", cluster.name, name_or_arn.rpartition("/")[2]))
        if service is None or (name_or_arn.startswith("arn:") and name_or_arn != service.arn):
            return None
        return service

    def service(self, cluster: Cluster, name_or_arn: str) -> Service:
        """As `find_service`; ServiceNotFoundException where there is none."""
        service = self.find_service(cluster, name_or_arn)
        if service is None:
            raise service_not_found()
        return service

    def find_task(self, cluster: Cluster, id_or_arn: str) -> Task | None:
        """The task of that id or ARN in the cluster, running or recently stopped."""
        task = self.tasks.get(self.arn("task", cluster.name, id_or_arn.rpartition("/")[2]))
        if task is None or (id_or_arn.startswith("arn:") and id_or_arn != task.arn):
            return None
        return task

    def task(self, cluster: Cluster, id_or_arn: str) -> Task:
        """As `find_task`; InvalidParameterException where there is none, as AWS answers."""
        task = self.find_task(cluster, id_or_arn)
        if task is None:
            raise invalid_parameter("The referenced task was not found.")
        return task

    def task_definition(self, reference: str) -> Json:
        """The task definition named by ARN, `family:revision` or `family` (its latest ACTIVE revision).

        Raises ClientException "Unable to describe task definition." as AWS does.
        """
        name = reference.rpartition("/")[2]
        family, _, revision = name.partition(":")
        if revision:
            found = self.task_definitions.get(self.arn("task-definition", name))
            if found is not None and (not reference.startswith("arn:") or reference == found["taskDefinitionArn"]):
                return found
        else:
            active = [d for d in self.task_definitions.values() if d["family"] == family and d["status"] == "ACTIVE"]
            if active:
                return max(active, key=lambda d: int(d["revision"]))
        raise client_error("Unable to describe task definition.")

    def runnable_task_definition(self, reference: str) -> Json:
        """As `task_definition`, for running tasks: an unknown or INACTIVE one is refused in AWS's words."""
        try:
            definition = self.task_definition(reference)
        except EcsError:
            raise client_error("TaskDefinition not found.") from None
        if definition["status"] != "ACTIVE":
            raise client_error("TaskDefinition is inactive")
        return definition

    def tasks_of(self, service: Service) -> list[Task]:
        """All tasks of a service, stopped ones included."""
        return [task for task in self.tasks.values() if task.service_arn == service.arn]

    # Conversion to and from JSON

    def forget_old_tasks(self, now: float) -> None:
        """Delete tasks that have been stopped for longer than AWS shows them."""
        for task in list(self.tasks.values()):
            if task.stopped_at is not None and now - task.stopped_at > STOPPED_TASKS_KEPT_SECONDS:
                del self.tasks[task.arn]
                self.tags.pop(task.arn, None)

    def saved(self) -> Json:
        """The state to save, for `encoded_state.encode`."""
        return {
            "clusters": list(self.clusters.values()),
            "task_definitions": list(self.task_definitions.values()),
            "revisions": self.revisions,
            "services": list(self.services.values()),
            "tasks": list(self.tasks.values()),
            "tags": self.tags,
        }

    def restore(self, saved: Json) -> None:
        """Replace the state with a decoded result of `saved`."""
        self.clear()
        for cluster in saved["clusters"]:
            self.clusters[cluster["name"]] = from_state(Cluster, cluster)
        for definition in saved["task_definitions"]:
            self.task_definitions[definition["taskDefinitionArn"]] = definition
        self.revisions.update(saved["revisions"])
        for service in saved["services"]:
            self.services[service["arn"]] = from_state(Service, service)
        for task in saved["tasks"]:
            self.tasks[task["arn"]] = from_state(Task, task)
        self.tags.update(saved["tags"])

    def clear(self) -> None:
        """Delete all records."""
        for records in (self.clusters, self.task_definitions, self.revisions, self.services, self.tasks, self.tags):
            records.clear()


def add_event(service: Service, message: str) -> None:
    """Add a message as the service's latest event, in the form "(service NAME) MESSAGE"."""
    service.events.insert(
        0, {"id": str(uuid.uuid4()), "createdAt": time.time(), "message": f"(service {service.name}) {message}"}
    )
    del service.events[EVENTS_KEPT:]


def new_task_id() -> str:
    """32 hexadecimal digits, like ECS's."""
    return secrets.token_hex(16)


def new_deployment_number() -> str:
    """19 decimal digits, as in `ecs-svc/1234567890123456789`."""
    return str(10**18 + secrets.randbelow(9 * 10**18))


def new_short_id() -> str:
    """21 characters: the last part of service deployments' and revisions' ARNs."""
    return secrets.token_urlsafe(16).replace("_", "x").replace("-", "y")[:21]
