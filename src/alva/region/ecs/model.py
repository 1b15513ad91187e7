"""ECS's records: clusters, task definitions, services with their deployments, tasks. Plain data, no behaviour.

Everything here is saved as JSON (`encoded_state.encode`, `from_state`), so fields are JSON values, other records, or
enums of strings. Times are seconds since the epoch, as the JSON 1.1 protocol sends them. Values that AWS returns
unchanged (container definitions, network configuration, load balancers) remain dictionaries in AWS's camelCase.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar

Json = dict[str, Any]
Record = TypeVar("Record")

FORMER_FIELDS = frozenset({"rollback_deployment_id"})
"""Fields of earlier versions' records, which are ignored."""


class TaskStatus(enum.StrEnum):
    """A task's `lastStatus`, in the order of its life cycle.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
    """

    PROVISIONING = "PROVISIONING"
    PENDING = "PENDING"
    ACTIVATING = "ACTIVATING"
    RUNNING = "RUNNING"
    DEACTIVATING = "DEACTIVATING"
    STOPPING = "STOPPING"
    DEPROVISIONING = "DEPROVISIONING"
    STOPPED = "STOPPED"

    @property
    def is_before_running(self) -> bool:
        """Whether the task counts as pending."""
        return self in (TaskStatus.PROVISIONING, TaskStatus.PENDING, TaskStatus.ACTIVATING)


class Health(enum.StrEnum):
    """The result of a container's health checks."""

    UNKNOWN = "UNKNOWN"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"


class DeploymentStatus(enum.StrEnum):
    """`status` of an entry of a service's `deployments`."""

    PRIMARY = "PRIMARY"
    ACTIVE = "ACTIVE"


class RolloutState(enum.StrEnum):
    """`rolloutState` of an entry of a service's `deployments`."""

    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class ServiceDeploymentStatus(enum.StrEnum):
    """`status` of a service deployment in DescribeServiceDeployments."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCESSFUL = "SUCCESSFUL"
    STOP_REQUESTED = "STOP_REQUESTED"
    STOPPED = "STOPPED"
    ROLLBACK_REQUESTED = "ROLLBACK_REQUESTED"
    ROLLBACK_IN_PROGRESS = "ROLLBACK_IN_PROGRESS"
    ROLLBACK_SUCCESSFUL = "ROLLBACK_SUCCESSFUL"
    ROLLBACK_FAILED = "ROLLBACK_FAILED"

    @property
    def is_final(self) -> bool:
        """Whether the status is final."""
        return self in (
            ServiceDeploymentStatus.SUCCESSFUL,
            ServiceDeploymentStatus.STOPPED,
            ServiceDeploymentStatus.ROLLBACK_SUCCESSFUL,
            ServiceDeploymentStatus.ROLLBACK_FAILED,
        )


@dataclass(kw_only=True)
class Cluster:
    """A cluster of services and tasks."""

    name: str
    arn: str
    status: str = "ACTIVE"
    settings: list[Json] = field(default_factory=list)
    configuration: Json | None = None
    capacity_providers: list[str] = field(default_factory=list)
    default_capacity_provider_strategy: list[Json] = field(default_factory=list)


@dataclass(kw_only=True)
class Container:
    """A container of a task, as DescribeTasks shows it."""

    name: str
    arn: str
    image: str
    essential: bool = True
    image_digest: str | None = None
    last_status: str = "PENDING"
    exit_code: int | None = None
    reason: str | None = None
    health: Health = Health.UNKNOWN
    runtime_id: str | None = None
    cpu: str = "0"
    memory: str | None = None
    memory_reservation: str | None = None
    exec_agent: str | None = None
    """RUNNING or STOPPED: ECS Exec's agent, as it was when the container started; None without ECS Exec."""
    exec_agent_reason: str | None = None


@dataclass(kw_only=True)
class Task:
    """A task, with all values that DescribeTasks shows."""

    id: str
    arn: str
    cluster_arn: str
    task_definition_arn: str
    group: str
    started_by: str | None
    containers: list[Container]
    created_at: float
    subnets: list[str]
    security_groups: list[str]
    assign_public_ip: str = "DISABLED"
    load_balancers: list[Json] = field(default_factory=list)
    service_registries: list[Json] = field(default_factory=list)
    service_arn: str | None = None
    overrides: Json = field(default_factory=dict)
    launch_type: str | None = "FARGATE"
    capacity_provider: str | None = None
    platform_version: str = "1.4.0"
    enable_execute_command: bool = False
    client_token: str | None = None
    """RunTask's `clientToken`: a repeated token returns the same tasks."""
    last_status: TaskStatus = TaskStatus.PROVISIONING
    desired_status: str = "RUNNING"
    version: int = 1
    # The network interface
    interface_id: str | None = None
    attachment_id: str | None = None
    attachment_status: str = "PRECREATED"
    subnet_id: str | None = None
    availability_zone: str | None = None
    address: str | None = None
    mac_address: str | None = None
    # Times
    connectivity_at: float | None = None
    pull_started_at: float | None = None
    pull_stopped_at: float | None = None
    started_at: float | None = None
    stopping_at: float | None = None
    execution_stopped_at: float | None = None
    stopped_at: float | None = None
    # The end
    stop_code: str | None = None
    stopped_reason: str | None = None
    was_healthy: bool = False
    """Whether the scheduler has seen the task pass all of its health checks at least once."""

    @property
    def is_stopping(self) -> bool:
        """Whether its desired status is STOPPED."""
        return self.desired_status == "STOPPED"


@dataclass(kw_only=True)
class Revision:
    """A service revision, which one deployment deploys. Immutable."""

    arn: str
    created_at: float
    task_definition_arn: str
    network_configuration: Json
    load_balancers: list[Json]
    service_registries: list[Json]
    launch_type: str | None
    capacity_provider_strategy: list[Json]
    platform_version: str


@dataclass(kw_only=True)
class Deployment:
    """An entry of a service's `deployments`: tasks of one revision, and the state of their rollout."""

    id: str
    revision_arn: str
    created_at: float
    updated_at: float
    status: DeploymentStatus = DeploymentStatus.PRIMARY
    rollout_state: RolloutState = RolloutState.IN_PROGRESS
    rollout_state_reason: str = ""
    failed_tasks: int = 0
    """Consecutive failures, which the circuit breaker counts."""
    short_lived_tasks: int = 0
    """Consecutive short-lived tasks. They delay the next start."""
    retry_at: float = 0.0
    stable_since: float | None = None
    is_rollback: bool = False


@dataclass(kw_only=True)
class ServiceDeployment:
    """One deployment of a revision to a service, its rollback included."""

    arn: str
    deployment_id: str
    created_at: float
    updated_at: float
    target_revision_arn: str
    source_revision_arns: list[str]
    deployment_configuration: Json
    started_at: float | None = None
    finished_at: float | None = None
    stopped_at: float | None = None
    status: ServiceDeploymentStatus = ServiceDeploymentStatus.PENDING
    status_reason: str | None = None
    rollback: Json | None = None
    breaker_status: str = "DISABLED"
    breaker_failures: int = 0
    breaker_threshold: int = 0
    alarms_status: str = "DISABLED"
    triggered_alarms: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Service:
    """A service: its desired tasks and revision, and its deployment configuration."""

    name: str
    arn: str
    cluster_arn: str
    created_at: float
    created_by: str
    desired_count: int
    deployment_configuration: Json
    status: str = "ACTIVE"
    health_check_grace_period_seconds: int = 0
    enable_execute_command: bool = False
    enable_ecs_managed_tags: bool = False
    propagate_tags: str = "NONE"
    availability_zone_rebalancing: str = "DISABLED"
    deployments: list[Deployment] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    service_deployments: list[ServiceDeployment] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    last_completed_revision_arn: str | None = None
    last_completed_deployment_id: str | None = None
    is_steady: bool = False
    is_stuck: bool = False
    """Whether the event was sent that the deployment configuration leaves no room to start or stop tasks."""
    is_throttled: bool = False
    """Whether the event was sent that tasks do not start consistently."""

    @property
    def primary(self) -> Deployment:
        """The deployment that the service is changing to."""
        return next(d for d in self.deployments if d.status is DeploymentStatus.PRIMARY)

    def revision(self, arn: str) -> Revision:
        """The revision of that ARN; KeyError if the service has none."""
        for revision in self.revisions:
            if revision.arn == arn:
                return revision
        raise KeyError(arn)

    def deployment(self, deployment_id: str) -> Deployment | None:
        """The deployment of that id, if it is still listed."""
        return next((d for d in self.deployments if d.id == deployment_id), None)

    @property
    def open_service_deployment(self) -> ServiceDeployment | None:
        """The service deployment in progress, if there is one."""
        return next((d for d in self.service_deployments if not d.status.is_final), None)


def task_health(task: Task, checked: set[str]) -> Health:
    """A task's health from its containers with health checks (`checked`, by name); UNKNOWN without health checks."""
    healths = [c.health for c in task.containers if c.name in checked]
    if Health.UNHEALTHY in healths:
        return Health.UNHEALTHY
    if not healths or Health.UNKNOWN in healths:
        return Health.UNKNOWN
    return Health.HEALTHY


def from_state(kind: type[Record], state: Json) -> Record:
    """The record of a saved state. A missing field has its default; an unknown one raises ValueError."""
    hints = _hints(kind)  # type: ignore[arg-type]  # a class is hashable
    state = {name: value for name, value in state.items() if name not in FORMER_FIELDS}
    unknown = set(state) - set(hints)
    if unknown:
        raise ValueError(f"cannot restore a {kind.__name__} of ECS: unknown fields {', '.join(sorted(unknown))}")
    return kind(**{name: _restored(hints[name], value) for name, value in state.items()})


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    names = {f.name for f in dataclasses.fields(kind)}
    return {k: v for k, v in typing.get_type_hints(kind).items() if k in names}


def _restored(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        return _restored(next(a for a in typing.get_args(hint) if a is not type(None)), value)
    if origin is list:
        (item,) = typing.get_args(hint)
        return [_restored(item, v) for v in value]
    if isinstance(hint, type) and issubclass(hint, enum.StrEnum):
        return hint(value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_state(hint, value)
    return value
