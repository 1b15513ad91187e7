"""Updates a service's records when a deployment starts, succeeds, fails, rolls back or is stopped.

It changes records and writes events, and starts no tasks. The messages of reasons and events are AWS's:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-event-messages-list.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from alva.region.ecs import actions, scheduler
from alva.region.ecs.model import (
    Deployment,
    DeploymentStatus,
    Revision,
    RolloutState,
    Service,
    ServiceDeployment,
    ServiceDeploymentStatus,
    Task,
)
from alva.region.ecs.state import add_event, new_deployment_number, new_short_id

SERVICE_DEPLOYMENTS_KEPT = 100
"""ListServiceDeployments shows 90 days on AWS, and this many here."""


def begin(service: Service, revision: Revision, now: float) -> ServiceDeployment:
    """Make a deployment of `revision` the primary one. A deployment in progress is superseded: it ends as STOPPED."""
    superseded = service.open_service_deployment
    if superseded is not None:
        stop(superseded, "Service deployment was stopped because a newer service deployment was created.", now)
    sources = [d.revision_arn for d in service.deployments]
    for former in service.deployments:
        former.status = DeploymentStatus.ACTIVE
        former.updated_at = now
    number = new_deployment_number()
    deployment = Deployment(
        id=f"ecs-svc/{number}",
        revision_arn=revision.arn,
        created_at=now,
        updated_at=now,
        rollout_state_reason=f"ECS deployment ecs-svc/{number} in progress.",
    )
    service.revisions.append(revision)
    service.deployments.insert(0, deployment)
    breaker = service.deployment_configuration.get("deploymentCircuitBreaker") or {}
    alarms = service.deployment_configuration.get("alarms") or {}
    record = ServiceDeployment(
        arn=f"{service.arn.replace(':service/', ':service-deployment/')}/{new_short_id()}",
        deployment_id=deployment.id,
        created_at=now,
        updated_at=now,
        started_at=now,
        status=ServiceDeploymentStatus.IN_PROGRESS,
        target_revision_arn=revision.arn,
        source_revision_arns=sources,
        deployment_configuration=service.deployment_configuration,
        breaker_status="MONITORING" if breaker.get("enable") else "DISABLED",
        breaker_threshold=scheduler.failure_threshold(breaker, service.desired_count),
        alarms_status="MONITORING" if alarms.get("enable") else "DISABLED",
    )
    service.service_deployments.insert(0, record)
    del service.service_deployments[SERVICE_DEPLOYMENTS_KEPT:]
    _forget_revisions(service)
    service.is_steady = False
    service.is_stuck = False
    service.is_throttled = False
    return record


def _forget_revisions(service: Service) -> None:
    """Drop the revisions that nothing refers to."""
    named = {service.last_completed_revision_arn, *(d.revision_arn for d in service.deployments)}
    for record in service.service_deployments:
        named.update((record.target_revision_arn, *record.source_revision_arns))
    service.revisions = [r for r in service.revisions if r.arn in named]


def stop(record: ServiceDeployment, reason: str, now: float) -> None:
    """End a service deployment that is superseded."""
    record.status = ServiceDeploymentStatus.STOPPED
    record.status_reason = reason
    record.stopped_at = record.finished_at = record.updated_at = now
    _end_monitors(record)


def stop_on_request(service: Service, record: ServiceDeployment, stop_type: str, now: float) -> None:
    """StopServiceDeployment: roll back to the last completed revision. With ABORT, or without such a revision, only
    stop starting tasks.

    https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StopServiceDeployment.html
    """
    reason = "Service deployment was stopped by a user."
    target = scheduler.rollback_revision(service, wanted=stop_type == "ROLLBACK")
    failed = service.primary
    failed.rollout_state = RolloutState.FAILED
    failed.rollout_state_reason = reason
    failed.updated_at = now
    if target is None:
        stop(record, reason, now)
        return
    roll_back(service, target, "ECS deployment stopped", now)
    record.status = ServiceDeploymentStatus.ROLLBACK_IN_PROGRESS
    record.status_reason = reason
    record.updated_at = now
    record.rollback = {"reason": reason, "startedAt": now, "serviceRevisionArn": target}
    _end_monitors(record)


def apply(service: Service, action: actions.Action, now: float) -> None:
    """Carry out an action that only changes the service's records."""
    match action:
        case actions.NoteStable():
            service.primary.stable_since = now
        case actions.Complete():
            _complete(service, now)
        case actions.Fail():
            fail(service, action.cause, action.rollback_to, now, action.triggered_alarms)
        case actions.Remove():
            service.deployments = [d for d in service.deployments if d.id != action.deployment_id]
        case actions.NoteSteady():
            service.is_steady = True
            add_event(service, "has reached a steady state.")
        case actions.Deactivate():
            service.status = "INACTIVE"
            service.deployments = []
        case actions.StartTasks() | actions.StopTask() | actions.NoteHealthy() | actions.NoteStuck():
            raise TypeError(f"only the controller carries out {action}")
        case _:
            assert_never(action)


def _complete(service: Service, now: float) -> None:
    primary = service.primary
    primary.rollout_state = RolloutState.COMPLETED
    primary.rollout_state_reason = f"ECS deployment {primary.id} completed."
    primary.failed_tasks = 0
    primary.updated_at = now
    service.last_completed_revision_arn = primary.revision_arn
    service.last_completed_deployment_id = primary.id
    add_event(service, f"(deployment {primary.id}) deployment completed.")
    record = service.open_service_deployment
    if record is None:
        return
    record.finished_at = record.updated_at = now
    if record.rollback is None:
        record.status = ServiceDeploymentStatus.SUCCESSFUL
        _end_monitors(record)
    else:
        record.status = ServiceDeploymentStatus.ROLLBACK_SUCCESSFUL


def _end_monitors(record: ServiceDeployment) -> None:
    if record.breaker_status == "MONITORING":
        record.breaker_status = "MONITORING_COMPLETE"
    if record.alarms_status == "MONITORING":
        record.alarms_status = "MONITORING_COMPLETE"


def fail(
    service: Service, cause: str, rollback_to: str | None, now: float, triggered_alarms: Sequence[str] = ()
) -> None:
    """End the primary deployment as FAILED and, if there is a revision to roll back to, start the rollback."""
    failed, record = service.primary, service.open_service_deployment
    failed.rollout_state = RolloutState.FAILED
    failed.rollout_state_reason = cause
    failed.updated_at = now
    add_event(service, f"(deployment {failed.id}) deployment failed: {_tail(cause)}")
    if record is not None:
        record.updated_at = now
        if cause == scheduler.BREAKER:
            record.breaker_status = "TRIGGERED"
            record.breaker_failures = failed.failed_tasks
        else:
            record.alarms_status = "TRIGGERED"
            record.triggered_alarms = list(triggered_alarms)
    if rollback_to is None:
        if record is not None:
            record.status = (
                ServiceDeploymentStatus.ROLLBACK_FAILED
                if record.rollback is not None
                else ServiceDeploymentStatus.STOPPED
            )
            record.status_reason = _status_reason(cause, rolls_back=False)
            record.stopped_at = record.finished_at = now
        return
    roll_back(service, rollback_to, cause.partition(":")[0], now)
    if record is not None:
        record.status = ServiceDeploymentStatus.ROLLBACK_IN_PROGRESS
        record.status_reason = _status_reason(cause, rolls_back=True)
        record.rollback = {
            "reason": record.status_reason,
            "startedAt": now,
            "serviceRevisionArn": rollback_to,
        }


def _tail(cause: str) -> str:
    return cause.partition(": ")[2] or cause


def _status_reason(cause: str, *, rolls_back: bool) -> str:
    what = "rolled back" if rolls_back else "was stopped"
    if cause == scheduler.BREAKER:
        return f"Service deployment {what} because of deployment circuit breaker: tasks failed to start."
    return f"Service deployment {what} because of a deployment alarm: alarm detected."


def roll_back(service: Service, revision_arn: str, initiator: str, now: float) -> None:
    """Make the revision primary again, in the deployment that still has its tasks or else in a new one."""
    failed = service.primary
    failed.status = DeploymentStatus.ACTIVE
    back = next((d for d in service.deployments if d.revision_arn == revision_arn and d is not failed), None)
    if back is None:
        back = Deployment(
            id=f"ecs-svc/{new_deployment_number()}", revision_arn=revision_arn, created_at=now, updated_at=now
        )
    else:
        service.deployments.remove(back)
    service.deployments.insert(0, back)
    back.status = DeploymentStatus.PRIMARY
    back.rollout_state = RolloutState.IN_PROGRESS
    target = service.last_completed_deployment_id or back.id
    back.rollout_state_reason = f"{initiator}: rolling back to deploymentId {target}."
    back.updated_at = now
    back.is_rollback = True
    back.failed_tasks = back.short_lived_tasks = 0
    back.retry_at = 0.0
    back.stable_since = None
    service.is_steady = False
    add_event(service, f"rolling back to deployment {target}.")


def note_healthy_task(service: Service, task: Task) -> None:
    """A healthy task resets its deployment's failure count, unless `resetOnHealthyTask` is false."""
    deployment = service.deployment(task.started_by or "")
    breaker = service.deployment_configuration.get("deploymentCircuitBreaker") or {}
    if deployment is not None and breaker.get("resetOnHealthyTask", True):
        deployment.failed_tasks = 0
        _show_failures(service, deployment)


def is_failure(task: Task) -> bool:
    """Whether a stopped task of a service stopped unexpectedly, without a request."""
    if task.stop_code == "ServiceSchedulerInitiated":
        return not (task.stopped_reason or "").startswith(scheduler.SCALING)
    return task.stop_code in ("TaskFailedToStart", "EssentialContainerExited")


def count_stopped_task(
    service: Service, deployment: Deployment, task: Task, timing: scheduler.Timing, now: float
) -> None:
    """Count a task that stopped unexpectedly for the circuit breaker, and delay its successor.

    For the circuit breaker a failure is a task that does not reach RUNNING or does not pass its health checks.
    """
    service.is_steady = False
    lived_seconds = now - task.started_at if task.started_at is not None else 0.0
    deployment.short_lived_tasks = deployment.short_lived_tasks + 1 if lived_seconds < timing.short_life_seconds else 0
    deployment.retry_at = now + scheduler.retry_delay_seconds(deployment.short_lived_tasks, timing)
    failed_health_checks = task.stop_code == "ServiceSchedulerInitiated"
    if not task.was_healthy or failed_health_checks:
        deployment.failed_tasks += 1
        deployment.updated_at = now
        _show_failures(service, deployment)
    if task.started_at is None and deployment.short_lived_tasks >= 3 and not service.is_throttled:
        service.is_throttled = True
        add_event(
            service,
            "is unable to consistently start tasks successfully. For more information, see the Troubleshooting section "
            "of the Amazon ECS Developer Guide.",
        )


def _show_failures(service: Service, deployment: Deployment) -> None:
    record = service.open_service_deployment
    if record is not None and record.deployment_id == deployment.id:
        record.breaker_failures = deployment.failed_tasks
