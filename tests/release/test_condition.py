"""The condition of an environment, in the words that `./alva status` and the page share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alva.cli.status import in_words
from alva.release.condition import judge
from alva.release.drift import Drift, Kind, MissingLogGroup
from alva.release.status import AlarmStatus, Status
from tests.console.states import GOOD, LOCK, NOW, STATES, changed, release, service


@pytest.mark.parametrize(
    ("name", "level", "summary"),
    [
        ("empty", "empty", "nothing is deployed yet"),
        ("good", "good", "everything runs: 4 services, 4 tasks, no alarm"),
        ("worker", "good", "everything runs: 5 services, 5 tasks, no alarm"),
        ("many", "good", "everything runs: 40 services, 40 tasks, no alarm"),
        ("releasing", "busy", "release of a1b2c3d4e5f6 in progress"),
        ("failing", "bad", "release of a1b2c3d4e5f6 in progress, 1 problem"),
        ("rolled-back", "warning", "release 8: rolled back; all services run the former version again"),
        ("asleep", "asleep", "asleep since "),
        ("alarms", "bad", "2 problems"),
        ("no-tasks", "bad", "api: 0 of 1 task runs"),
        ("unhealthy", "warning", "auth: 1 of 2 targets unhealthy: Health checks failed with these codes: [503]"),
    ],
)
def test_status_and_page_share_one_line_for_each_state(name: str, level: str, summary: str) -> None:
    status = STATES[name].status
    assert isinstance(status, Status)
    condition = judge(status)
    assert (condition.level, condition.summary[: len(summary)]) == (level, summary)
    said = "\n".join(in_words(status, None, NOW))
    assert condition.summary in said
    assert all(str(finding) in said for finding in condition.findings)


def test_every_finding_has_a_next_step() -> None:
    for state in STATES.values():
        if isinstance(state.status, Status):
            assert all(finding.next_step for finding in judge(state.status).findings)


def test_findings_name_the_part_of_the_picture() -> None:
    parts = {}
    for name in ("alarms", "no-tasks", "unhealthy", "rolled-back"):
        status = STATES[name].status
        assert isinstance(status, Status)
        parts[name] = [finding.part for finding in judge(status).findings]
    assert parts == {"alarms": ["api", "database"], "no-tasks": ["api"], "unhealthy": ["auth"], "rolled-back": [""]}


@pytest.mark.parametrize(
    ("part", "next_step"),
    [("api-jobs", "./alva logs api-jobs --since 1h"), ("database", "./alva open"), ("", "./alva open")],
)
def test_an_alarm_names_its_part_and_the_logs_of_its_service(part: str, next_step: str) -> None:
    alarm = AlarmStatus(name="api-jobs-cpu", part=part, description="CPU above 85 %", reason="", since=NOW)
    services = (service("api"), service("api-jobs"))
    (finding,) = judge(replace(GOOD, services=services, alarms=(alarm,))).findings
    assert (finding.part, finding.next_step) == (part, next_step)


def test_worst_finding_is_the_first_one() -> None:
    status = STATES["alarms"].status
    assert isinstance(status, Status)
    unhealthy = STATES["unhealthy"].status
    assert isinstance(unhealthy, Status)
    condition = judge(replace(status, services=unhealthy.services))
    assert [finding.level for finding in condition.findings] == ["bad", "bad", "warning"]
    assert condition.summary == "2 problems, 1 warning"


def test_task_that_starts_in_a_rollout_is_no_problem() -> None:
    starting = service("api", running=0, tasks=(), targets=(), deployment="IN_PROGRESS")
    starting = replace(starting, deployments=(replace(starting.deployments[0], state="IN_PROGRESS"),))
    assert judge(replace(GOOD, services=changed(api=starting))).level == "busy"


def test_missing_stack_and_stack_that_failed_are_problems() -> None:
    first, second, *rest = GOOD.stacks
    stacks = (replace(first, status="does not exist"), replace(second, status="UPDATE_ROLLBACK_FAILED"), *rest)
    found = judge(replace(GOOD, stacks=stacks)).findings
    assert [(str(each), each.next_step) for each in found] == [
        ("stack alva-staging-network: does not exist", "./alva deploy"),
        ("stack alva-staging-registry: UPDATE_ROLLBACK_FAILED", "./alva why"),
    ]


def test_drift_has_the_command_or_the_instruction_that_removes_it() -> None:
    reverted = Drift(
        kind=Kind.LOG_GROUP,
        subject="web",
        message="its log group is missing",
        repair=MissingLogGroup(name="g", retention_days=14),
    )
    asked = Drift(kind=Kind.RESOURCE, subject="s/X", message="differs", next_step="change it back by hand")
    found = judge(replace(GOOD, drifts=(reverted, asked))).findings
    assert [(str(each), each.next_step) for each in found] == [
        ("drift: web: its log group is missing", "./alva deploy"),
        ("drift: s/X: differs", "change it back by hand"),
    ]


def test_interrupted_release_is_released_again() -> None:
    (finding,) = judge(replace(GOOD, release=release(8, outcome="interrupted"))).findings
    assert (str(finding), finding.next_step) == ("release 8: interrupted", "./alva deploy")


def test_former_release_is_not_reported_while_another_one_runs() -> None:
    assert judge(replace(GOOD, release=release(8, outcome="failed"), lock=LOCK)).findings == ()
