"""The scheduler's decisions, as values: no process, no clock."""

from __future__ import annotations

from typing import Any

import pytest

from alva.region.ecs.actions import (
    Complete,
    Deactivate,
    Fail,
    NoteHealthy,
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
    Revision,
    RolloutState,
    Service,
    TaskStatus,
)
from alva.region.ecs.scheduler import (
    BREAKER,
    TargetView,
    TaskView,
    Timing,
    decide,
    failure_threshold,
    judge,
    retry_delay_seconds,
)

NOW = 1000.0
GROUP = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/web/1"


def revision(name: str) -> Revision:
    return Revision(
        arn=name,
        created_at=0,
        task_definition_arn=f"web:{name}",
        network_configuration={},
        load_balancers=[],
        service_registries=[],
        launch_type="FARGATE",
        capacity_provider_strategy=[],
        platform_version="1.4.0",
    )


def deployment(name: str, status: str = "PRIMARY", rollout: str = "IN_PROGRESS", **more: Any) -> Deployment:
    return Deployment(
        id=name,
        revision_arn=name,
        created_at=0,
        updated_at=0,
        status=DeploymentStatus(status),
        rollout_state=RolloutState(rollout),
        **more,
    )


def service(
    *deployments: Deployment, desired: int = 2, configuration: dict[str, Any] | None = None, **more: Any
) -> Service:
    return Service(
        name="web",
        arn="web",
        cluster_arn="cluster",
        created_at=0,
        created_by="me",
        desired_count=desired,
        deployment_configuration={"maximumPercent": 200, "minimumHealthyPercent": 100, **(configuration or {})},
        deployments=list(deployments),
        revisions=[revision(d.id) for d in deployments],
        **more,
    )


def task(
    task_id: str,
    of: str,
    status: TaskStatus = TaskStatus.RUNNING,
    *,
    target: str | None = None,
    created_at: float = 0,
    stopping: bool = False,
    **more: Any,
) -> TaskView:
    targets = (
        (TargetView(target_group_arn=GROUP, port=80, state=target, description="Request timed out"),) if target else ()
    )
    return TaskView(
        id=task_id,
        deployment_id=of,
        status=status,
        created_at=created_at,
        started_at=None if status.is_before_running else 900.0,
        is_stopping=stopping,
        was_healthy=True,
        targets=targets,
        **more,
    )


def old_and_new(**more: Any) -> Service:
    return service(
        deployment("new"), deployment("old", "ACTIVE", "COMPLETED"), last_completed_revision_arn="old", **more
    )


def stops(actions: list[Any]) -> list[str]:
    return [a.task_id for a in actions if isinstance(a, StopTask)]


def starts(actions: list[Any]) -> int:
    return sum(a.count for a in actions if isinstance(a, StartTasks))


def test_new_service_starts_as_many_tasks_as_desired() -> None:
    assert decide(service(deployment("new"), desired=3), [], NOW) == [StartTasks(deployment_id="new", count=3)]


def test_new_tasks_start_beside_the_old_up_to_maximum_percent() -> None:
    old = [task("a", "old"), task("b", "old")]
    assert starts(decide(old_and_new(), old, NOW)) == 2
    assert starts(decide(old_and_new(configuration={"maximumPercent": 150}), old, NOW)) == 1


def test_old_tasks_stay_until_new_ones_are_healthy() -> None:
    old = [task("a", "old", target="healthy"), task("b", "old", target="healthy")]
    starting = [task("c", "new", TaskStatus.PENDING), task("d", "new", target="initial")]
    assert decide(old_and_new(), old + starting, NOW) == []
    one_healthy = [task("c", "new", TaskStatus.PENDING), task("d", "new", target="healthy")]
    assert stops(decide(old_and_new(), old + one_healthy, NOW)) == ["a"]


def test_minimum_healthy_percent_below_one_hundred_makes_room_first() -> None:
    actions = decide(
        old_and_new(configuration={"maximumPercent": 100, "minimumHealthyPercent": 50}),
        [task("a", "old"), task("b", "old", created_at=1)],
        NOW,
    )
    assert stops(actions) == ["a"]
    assert starts(actions) == 1


def test_configuration_without_room_is_an_event_and_changes_nothing() -> None:
    actions = decide(
        old_and_new(desired=1, configuration={"maximumPercent": 150, "minimumHealthyPercent": 100}),
        [task("a", "old")],
        NOW,
    )
    assert actions == [NoteStuck()]


def test_deployment_completes_only_when_the_old_tasks_are_drained() -> None:
    new = [task("c", "new"), task("d", "new")]
    draining = task("a", "old", TaskStatus.DEACTIVATING, stopping=True)
    assert decide(old_and_new(), [*new, draining], NOW) == []
    stopping = task("a", "old", TaskStatus.STOPPING, stopping=True)
    actions = decide(old_and_new(), [*new, stopping], NOW)
    assert Remove(deployment_id="old") in actions
    assert Complete(deployment_id="new") in actions
    assert NoteSteady() in actions


def test_bake_time_delays_completion() -> None:
    tasks = [task("c", "new"), task("d", "new")]
    baking = service(deployment("new", stable_since=NOW - 59), configuration={"bakeTimeInMinutes": 1})
    assert decide(baking, tasks, NOW) == []
    assert Complete(deployment_id="new") in decide(baking, tasks, NOW + 1)


def test_early_success_does_not_wait_for_every_task() -> None:
    early = {"enable": True, "healthyPercent": 50, "sourceServiceRevisionCleanup": "DEFERRED"}
    tasks = [task("a", "old"), task("c", "new"), task("d", "new", TaskStatus.PENDING)]
    assert Complete(deployment_id="new") in decide(
        old_and_new(configuration={"earlySuccessCriteria": early}), tasks, NOW
    )
    blocking = {**early, "sourceServiceRevisionCleanup": "BLOCKING"}
    assert Complete(deployment_id="new") not in decide(
        old_and_new(configuration={"earlySuccessCriteria": blocking}), tasks, NOW
    )


def test_target_that_fails_within_the_grace_period_is_left_alone() -> None:
    failing = task("c", "new", target="unhealthy")
    graceful = service(deployment("new"), desired=1, health_check_grace_period_seconds=200)
    assert decide(graceful, [failing], NOW) == []
    assert decide(service(deployment("new"), desired=1), [failing], NOW)[0] == StopTask(
        task_id="c",
        reason=f"Task failed ELB health checks in (target-group {GROUP})",
        event=f"(task c) (port 80) is unhealthy in (target-group {GROUP}) due to (reason Request timed out).",
    )


def test_unhealthy_task_of_a_steady_service_stays_until_its_replacement_is_healthy() -> None:
    steady = service(deployment("now", rollout="COMPLETED"), desired=1, is_steady=True)
    sick = task("a", "now", target="unhealthy")
    assert decide(steady, [sick], NOW) == [StartTasks(deployment_id="now", count=1)]
    assert decide(steady, [sick, task("b", "now", TaskStatus.PENDING, created_at=1)], NOW) == []
    assert stops(decide(steady, [sick, task("b", "now", target="healthy", created_at=1)], NOW)) == ["a"]


def test_unhealthy_task_is_stopped_first_without_room_for_its_replacement() -> None:
    full = service(
        deployment("now", rollout="COMPLETED"),
        desired=1,
        configuration={"maximumPercent": 100, "minimumHealthyPercent": 0},
    )
    assert stops(decide(full, [task("a", "now", target="unhealthy")], NOW)) == ["a"]


def test_scaling_in_stops_tasks_that_serve_least_then_the_newest() -> None:
    one = service(deployment("now", rollout="COMPLETED"), desired=1)
    tasks = [
        task("old", "now", created_at=1),
        task("newer", "now", created_at=2),
        task("starting", "now", TaskStatus.PENDING, created_at=0),
    ]
    actions = decide(one, tasks, NOW)
    assert stops(actions) == ["starting", "newer"]
    assert actions[0] == StopTask(task_id="starting", reason="Scaling activity initiated by (deployment now)")


BREAKING = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}


def test_circuit_breaker_triggers_at_its_threshold_and_names_the_revision_to_roll_back_to() -> None:
    failing = old_and_new(configuration=BREAKING)
    failing.deployments[0].failed_tasks = 2
    assert Fail not in {type(a) for a in decide(failing, [], NOW)}
    failing.deployments[0].failed_tasks = 3
    assert decide(failing, [], NOW) == [Fail(deployment_id="new", cause=BREAKER, rollback_to="old")]


def test_first_deployment_has_no_revision_to_roll_back_to() -> None:
    first = service(deployment("new", failed_tasks=3), configuration=BREAKING)
    assert decide(first, [], NOW) == [Fail(deployment_id="new", cause=BREAKER, rollback_to=None)]


def test_failed_rollback_is_not_rolled_back_again() -> None:
    back = service(
        deployment("old", failed_tasks=3, is_rollback=True),
        deployment("new", "ACTIVE", "FAILED"),
        configuration=BREAKING,
        last_completed_revision_arn="old",
    )
    assert decide(back, [], NOW) == [Fail(deployment_id="old", cause=BREAKER, rollback_to=None)]


def test_failed_deployment_starts_nothing_and_leaves_the_old_tasks_alone() -> None:
    failed = service(deployment("new", rollout="FAILED"), deployment("old", "ACTIVE", "COMPLETED"))
    assert decide(failed, [task("a", "old"), task("b", "old")], NOW) == []


def test_rollback_keeps_the_old_tasks_and_stops_the_new() -> None:
    back = service(deployment("old", is_rollback=True), deployment("new", "ACTIVE", "FAILED"))
    tasks = [task("a", "old"), task("b", "old"), task("c", "new", TaskStatus.PENDING)]
    actions = decide(back, tasks, NOW)
    assert stops(actions) == ["c"]
    assert starts(actions) == 0


@pytest.mark.parametrize(
    ("configured", "desired", "threshold"),
    [
        (None, 1, 3),
        (None, 10, 5),
        (None, 1000, 200),
        ({"type": "COUNT", "value": 2}, 1000, 2),
        ({"type": "BOUNDED_PERCENT", "value": 100}, 2, 3),
        ({"type": "UNBOUNDED_PERCENT", "value": 50}, 1, 1),
        ({"type": "UNBOUNDED_PERCENT", "value": 50}, 1000, 500),
    ],
)
def test_circuit_breaker_threshold(configured: dict[str, Any] | None, desired: int, threshold: int) -> None:
    breaker = {"enable": True, "thresholdConfiguration": configured} if configured else {"enable": True}
    assert failure_threshold(breaker, desired) == threshold


def test_restarts_slow_down_with_every_short_lived_task() -> None:
    timing = Timing(first_retry_delay_seconds=1, longest_retry_delay_seconds=10)
    assert [retry_delay_seconds(n, timing) for n in range(7)] == [0, 0, 1, 2, 4, 8, 10]
    waiting = service(deployment("new", retry_at=NOW + 1), desired=1)
    assert decide(waiting, [], NOW) == []
    assert starts(decide(waiting, [], NOW + 1)) == 1


def test_task_is_healthy_only_when_every_check_passes() -> None:
    both: dict[str, Any] = {"has_health_check": True, "target": "healthy"}
    assert judge(task("a", "x", container_health=Health.UNKNOWN, **both), 0, NOW).health is Health.UNKNOWN
    assert judge(task("a", "x", container_health=Health.HEALTHY, **both), 0, NOW).health is Health.HEALTHY
    sick = judge(task("a", "x", container_health=Health.UNHEALTHY, **both), 0, NOW)
    assert (sick.health, sick.stopped_reason) == (Health.UNHEALTHY, "Task failed container health checks")
    assert judge(task("a", "x", TaskStatus.ACTIVATING), 0, NOW).health is Health.UNKNOWN
    assert judge(task("a", "x", target="unused"), 0, NOW).health is Health.UNKNOWN


def test_first_success_of_a_task_is_noted_once() -> None:
    fresh = TaskView(id="a", deployment_id="new", status=TaskStatus.RUNNING, created_at=0, started_at=1)
    assert NoteHealthy(task_id="a") in decide(service(deployment("new"), desired=2), [fresh], NOW)
    assert NoteHealthy(task_id="b") not in decide(service(deployment("new"), desired=2), [task("b", "new")], NOW)


def test_deleted_service_stops_its_tasks_and_then_is_inactive() -> None:
    deleted = service(deployment("now", rollout="COMPLETED"), status="DRAINING", desired=0)
    assert stops(decide(deleted, [task("a", "now"), task("b", "now", stopping=True)], NOW)) == ["a"]
    assert decide(deleted, [], NOW) == [Deactivate()]
