"""The service scheduler: decides the next actions from a service, its tasks and the time.

Pure: no socket, no clock, no change to its arguments. `controller.py` carries the actions out. The rules are
those of rolling updates with the circuit breaker:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-concepts.html (replacement, throttling)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from alva.region.ecs.actions import (
    Action,
    Complete,
    Deactivate,
    Fail,
    NoteHealthy,
    NoteStable,
    NoteSteady,
    NoteStuck,
    Remove,
    StartTasks,
    StopTask,
)
from alva.region.ecs.model import (
    Deployment,
    DeploymentStatus,
    Health,
    Json,
    RolloutState,
    Service,
    TaskStatus,
)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The scheduler's delays. AWS does not publish its figures; tests shorten these."""

    first_retry_delay_seconds: float = 1.0
    """The delay after the second short-lived task in a row. It doubles with every further one."""
    longest_retry_delay_seconds: float = 60.0
    short_life_seconds: float = 60.0
    """A task that runs for less than this is short-lived."""


@dataclass(frozen=True, kw_only=True)
class TargetView:
    """A task's target in one target group, with its target health."""

    target_group_arn: str
    port: int
    state: str
    reason: str = ""
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """A task that has not stopped: the scheduler's input."""

    id: str
    deployment_id: str
    status: TaskStatus
    created_at: float
    started_at: float | None = None
    is_stopping: bool = False
    was_healthy: bool = False
    has_health_check: bool = False
    container_health: Health = Health.UNKNOWN
    targets: tuple[TargetView, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The scheduler's verdict on a task's health checks."""

    health: Health
    stopped_reason: str = ""
    event: str = ""


SCALING = "Scaling activity initiated by"
BREAKER = "ECS deployment circuit breaker: tasks failed to start."
ALARM = "ECS deployment alarm: alarm detected."


def failure_threshold(breaker: Json, desired_count: int) -> int:
    """The number of failed tasks that triggers the circuit breaker.

    By default half of the desired count, at least 3 and at most 200 (ThresholdConfiguration's BOUNDED_PERCENT).
    """
    configured = breaker.get("thresholdConfiguration") or {"type": "BOUNDED_PERCENT", "value": 50}
    value = int(configured["value"])
    if configured["type"] == "COUNT":
        return max(1, value)
    share = math.ceil(desired_count * value / 100)
    if configured["type"] == "UNBOUNDED_PERCENT":
        return max(1, share)
    return min(200, max(3, share))


def judge(task: TaskView, grace_period_seconds: float, now: float) -> Verdict:
    """Whether a task counts as healthy, from its container health checks and its targets.

    A task is healthy when it is RUNNING and all of its checks pass. It is unhealthy only after the grace period, which
    starts with the task.
    """
    if task.status is not TaskStatus.RUNNING or task.started_at is None:
        return Verdict(health=Health.UNKNOWN)
    in_grace = now < task.started_at + grace_period_seconds
    if task.has_health_check and task.container_health is Health.UNHEALTHY and not in_grace:
        return Verdict(
            health=Health.UNHEALTHY,
            stopped_reason="Task failed container health checks",
            event=f"(task {task.id}) failed container health checks.",
        )
    for target in task.targets:
        if target.state == "unhealthy" and not in_grace:
            why = target.description or target.reason
            return Verdict(
                health=Health.UNHEALTHY,
                stopped_reason=f"Task failed ELB health checks in (target-group {target.target_group_arn})",
                event=f"(task {task.id}) (port {target.port}) is unhealthy in "
                f"(target-group {target.target_group_arn}) due to (reason {why}).",
            )
    if task.has_health_check and task.container_health is not Health.HEALTHY:
        return Verdict(health=Health.UNKNOWN)
    if any(target.state != "healthy" for target in task.targets):
        return Verdict(health=Health.UNKNOWN)
    return Verdict(health=Health.HEALTHY)


def retry_delay_seconds(short_lived_tasks: int, timing: Timing) -> float:
    """The delay before the next start after this many short-lived tasks in a row: 0, 1, 2, 4 ... seconds."""
    if short_lived_tasks < 2:
        return 0.0
    doubled = timing.first_retry_delay_seconds * 2.0 ** min(short_lived_tasks - 2, 30)
    return min(timing.longest_retry_delay_seconds, doubled)


def decide(service: Service, tasks: Sequence[TaskView], now: float, in_alarm: Sequence[str] = ()) -> list[Action]:
    """The next actions for one service.

    `tasks` are all of its tasks that have not stopped, `in_alarm` are the deployment alarms in ALARM.
    """
    if service.status == "DRAINING":
        return _decide_deletion(service, tasks)
    return _Decision(service, tasks, now, in_alarm).actions()


def scaling_reason(deployment_id: str) -> str:
    """AWS's `stoppedReason` for a task that is stopped because of a deployment or a smaller desired count."""
    return f"{SCALING} (deployment {deployment_id})"


def _decide_deletion(service: Service, tasks: Sequence[TaskView]) -> list[Action]:
    if not tasks:
        return [Deactivate()]
    primary = service.primary
    return [StopTask(task_id=t.id, reason=scaling_reason(primary.id)) for t in tasks if not t.is_stopping]


class _Decision:
    """One round for one service. Each step is a method and considers the decisions of the earlier ones."""

    def __init__(self, service: Service, tasks: Sequence[TaskView], now: float, in_alarm: Sequence[str]) -> None:
        configuration = service.deployment_configuration
        self.service = service
        self.now = now
        self.in_alarm = in_alarm
        self.primary = service.primary
        self.desired = service.desired_count
        self.most = math.floor(self.desired * configuration.get("maximumPercent", 200) / 100)
        self.least_healthy = math.ceil(self.desired * configuration.get("minimumHealthyPercent", 100) / 100)
        self.tasks = list(tasks)
        self.live = sorted((t for t in tasks if not t.is_stopping), key=lambda t: (t.created_at, t.id))
        grace = service.health_check_grace_period_seconds
        self.verdicts = {t.id: judge(t, grace, now) for t in self.live}
        self.stopped_now: set[str] = set()
        self.decided: list[Action] = []

    def actions(self) -> list[Action]:
        self._note_healthy()
        if self._fail_deployment():
            return self.decided
        self._stop_unhealthy_of_deployment()
        self._scale_in()
        self._stop_former_tasks()
        self._start_tasks()
        self._remove_former_deployments()
        self._complete()
        self._note_steady()
        return self.decided

    def _health(self, task: TaskView) -> Health:
        return self.verdicts[task.id].health

    def _kept(self, *, primary: bool) -> list[TaskView]:
        return [
            t for t in self.live if (t.deployment_id == self.primary.id) is primary and t.id not in self.stopped_now
        ]

    def _stop(self, task: TaskView, reason: str, *, event: str = "") -> None:
        self.stopped_now.add(task.id)
        self.decided.append(StopTask(task_id=task.id, reason=reason, event=event))

    def _stop_as_unhealthy(self, task: TaskView) -> None:
        verdict = self.verdicts[task.id]
        self._stop(task, verdict.stopped_reason, event=verdict.event)

    def _note_healthy(self) -> None:
        self.decided.extend(
            NoteHealthy(task_id=t.id) for t in self.live if self._health(t) is Health.HEALTHY and not t.was_healthy
        )

    def _fail_deployment(self) -> bool:
        if self.primary.rollout_state is not RolloutState.IN_PROGRESS:
            return False
        breaker = self.service.deployment_configuration.get("deploymentCircuitBreaker") or {}
        alarms = self.service.deployment_configuration.get("alarms") or {}
        if breaker.get("enable") and self.primary.failed_tasks >= failure_threshold(breaker, self.desired):
            cause, monitor = BREAKER, breaker
        elif self.in_alarm:
            cause, monitor = ALARM, alarms
        else:
            return False
        rollback_to = rollback_revision(self.service, wanted=bool(monitor.get("rollback")))
        self.decided.append(
            Fail(
                deployment_id=self.primary.id,
                cause=cause,
                rollback_to=rollback_to,
                triggered_alarms=tuple(self.in_alarm) if cause == ALARM else (),
            )
        )
        return True

    def _stop_unhealthy_of_deployment(self) -> None:
        """During a deployment a new task that fails its checks is stopped at once: it serves no requests yet."""
        if self.primary.rollout_state is not RolloutState.IN_PROGRESS:
            return
        for task in self._kept(primary=True):
            if self._health(task) is Health.UNHEALTHY:
                self._stop_as_unhealthy(task)

    def _scale_in(self) -> None:
        """Stop surplus tasks: those that are furthest from serving first, then the newest."""
        kept = self._kept(primary=True)
        rank = {Health.UNHEALTHY: 0, Health.UNKNOWN: 1, Health.HEALTHY: 2}
        superfluous = len(kept) - self.desired
        good = [t for t in kept if self._health(t) is Health.HEALTHY]
        unhealthy = [t for t in kept if self._health(t) is Health.UNHEALTHY]
        if superfluous <= 0:
            return
        # A replacement that is starting (see below) is not surplus before it is healthy.
        if unhealthy and len(good) < self.desired and len(kept) - len(unhealthy) <= self.desired:
            return
        for task in sorted(kept, key=lambda t: (rank[self._health(t)], -t.created_at, t.id))[:superfluous]:
            if self._health(task) is Health.UNHEALTHY:
                self._stop_as_unhealthy(task)
            else:
                self._stop(task, scaling_reason(self.primary.id))

    def _stop_former_tasks(self) -> None:
        """Stop tasks of former deployments, oldest first, within the minimum healthy percent."""
        former = self._kept(primary=False)
        if not former or self.primary.rollout_state is RolloutState.FAILED:
            return
        healthy = sum(1 for t in self.live if t.id not in self.stopped_now and self._health(t) is Health.HEALTHY)
        spare = healthy - self.least_healthy
        for task in former:
            verdict = self.verdicts[task.id]
            if verdict.health is Health.UNHEALTHY:
                self._stop(task, verdict.stopped_reason, event=verdict.event)
            elif verdict.health is Health.UNKNOWN:
                self._stop(task, scaling_reason(self.primary.id))
            elif spare > 0:
                spare -= 1
                self._stop(task, scaling_reason(self.primary.id))

    def _start_tasks(self) -> None:
        if self.primary.rollout_state is RolloutState.FAILED:
            return
        kept = self._kept(primary=True)
        unhealthy = [t for t in kept if self._health(t) is Health.UNHEALTHY]
        missing = self.desired - (len(kept) - len(unhealthy))
        if missing <= 0 or self.now < self.primary.retry_at:
            return
        room = self.most - len(kept) - len(self._kept(primary=False))
        if room <= 0:
            # The maximum percent leaves no room for a replacement, so the unhealthy task is stopped first.
            for task in unhealthy[:missing]:
                self._stop_as_unhealthy(task)
            if not unhealthy and not self.stopped_now and self._is_stuck():
                self.decided.append(NoteStuck())
            return
        self.decided.append(StartTasks(deployment_id=self.primary.id, count=min(missing, room)))

    def _is_stuck(self) -> bool:
        """Whether the deployment cannot continue: every live task is needed, and there is no room for more."""
        return not any(t.is_stopping for t in self.tasks) and not any(t.status.is_before_running for t in self.live)

    def _remove_former_deployments(self) -> None:
        """Remove a former deployment after its last task has been drained and stopped."""
        for deployment in self.service.deployments:
            if deployment.status is DeploymentStatus.PRIMARY:
                continue
            if not any(t.deployment_id == deployment.id and not _is_past_draining(t) for t in self.tasks):
                self.decided.append(Remove(deployment_id=deployment.id))

    def _complete(self) -> None:
        if self.primary.rollout_state is not RolloutState.IN_PROGRESS:
            return
        healthy = sum(1 for t in self._kept(primary=True) if self._health(t) is Health.HEALTHY)
        early = self.service.deployment_configuration.get("earlySuccessCriteria") or {}
        needed, waits_for_former = self.desired, True
        if early.get("enable"):
            needed = math.ceil(self.desired * early["healthyPercent"] / 100)
            waits_for_former = early["sourceServiceRevisionCleanup"] == "BLOCKING"
        elif len(self._kept(primary=True)) != self.desired:
            return
        removed = {a.deployment_id for a in self.decided if isinstance(a, Remove)}
        former = [d for d in self.service.deployments if d.id != self.primary.id and d.id not in removed]
        if healthy < needed or (waits_for_former and former):
            return
        if self.primary.stable_since is None:
            self.decided.append(NoteStable(deployment_id=self.primary.id))
        minutes = self.service.deployment_configuration.get("bakeTimeInMinutes") or 0
        bake_seconds = 0.0 if self.primary.is_rollback else 60.0 * minutes
        if self.now >= (self.primary.stable_since or self.now) + bake_seconds:
            self.decided.append(Complete(deployment_id=self.primary.id))

    def _note_steady(self) -> None:
        if self.service.is_steady:
            return
        completes = any(isinstance(a, Complete) for a in self.decided)
        if not completes and self.primary.rollout_state is not RolloutState.COMPLETED:
            return
        kept = self._kept(primary=True)
        removed = sum(1 for a in self.decided if isinstance(a, Remove))
        if (
            len(kept) == self.desired
            and all(self._health(t) is Health.HEALTHY for t in kept)
            and len(self.service.deployments) - removed == 1
        ):
            self.decided.append(NoteSteady())


def _is_past_draining(task: TaskView) -> bool:
    return task.status in (TaskStatus.STOPPING, TaskStatus.DEPROVISIONING, TaskStatus.STOPPED)


def rollback_revision(service: Service, *, wanted: bool) -> str | None:
    """The revision to roll back to: the last completed one, or None if this deployment is a rollback."""
    primary: Deployment = service.primary
    if not wanted or primary.is_rollback:
        return None
    if service.last_completed_revision_arn == primary.revision_arn:
        return None
    return service.last_completed_revision_arn
