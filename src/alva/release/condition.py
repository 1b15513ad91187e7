"""Judges whether an environment works, in the words that `./alva status` and the page share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from alva.release.ledger import FAILED, INTERRUPTED, ROLLED_BACK
from alva.release.serving import tasks_run
from alva.release.status import AlarmStatus, ServiceStatus, Status

MISSING = "does not exist"
"""The state that `status` reports for a service or stack that does not exist in AWS."""


class Level(StrEnum):
    """The state of an environment or of one part of it, the most urgent first."""

    EMPTY = "empty"
    ASLEEP = "asleep"
    BAD = "bad"
    """Users are affected, or will be."""
    BUSY = "busy"
    """A change is in progress."""
    WARNING = "warning"
    """Users are not affected, but somebody should look at it."""
    GOOD = "good"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem, or one change in progress."""

    level: Level
    subject: str
    """`api`, `alarm api-errors`, `stack alva-staging-alb`, `release 7`, `drift`."""
    text: str
    next_step: str
    """A command, or an instruction for a person."""
    part: str = ""
    """The box of the picture that it concerns: a service's name, `alb`, `database` or `cache`; empty for none."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The state of a whole environment."""

    level: Level
    summary: str
    """One line: "everything runs: 4 services, ...", the only finding, "2 problems, 1 warning" or "asleep since ..."."""
    findings: tuple[Finding, ...] = ()
    """The most urgent first."""
    next_step: str = ""


def judge(found: Status) -> Condition:
    """Judge an environment by what `status.read_status` found."""
    if all(stack.status == MISSING for stack in found.stacks) and not _exist(found.services):
        return Condition(level=Level.EMPTY, summary="nothing is deployed yet", next_step="./alva deploy")
    findings = sorted(_findings(found), key=lambda each: list(Level).index(each.level))
    if found.asleep is not None:
        return Condition(
            level=Level.ASLEEP,
            summary=str(found.asleep),
            findings=tuple(findings),
            next_step="./alva wake",
        )
    words = [f"{found.lock.what} in progress"] if found.lock is not None else []
    problems = [each for each in findings if each.level is not Level.BUSY]
    if len(problems) == 1 and not words:
        words = [str(problems[0])]
    else:
        counts = ((Level.BAD, "problem"), (Level.WARNING, "warning"))
        numbers = [(sum(each.level is level for each in problems), word) for level, word in counts]
        words += [_count(number, word) for number, word in numbers if number]
    is_busy = found.lock is not None or any(each.level is Level.BUSY for each in findings)
    worst = findings[0].level if findings else Level.GOOD
    return Condition(
        level=Level.BUSY if is_busy and worst is not Level.BAD else worst,
        summary=", ".join(words) or ("tasks start" if is_busy else _all_well(found)),
        findings=tuple(findings),
    )


def _exist(services: tuple[ServiceStatus, ...]) -> bool:
    return any(service.deployment != MISSING for service in services)


def _all_well(found: Status) -> str:
    services, tasks = len(found.services), sum(service.running for service in found.services)
    return f"everything runs: {_count(services, 'service')}, {_count(tasks, 'task')}, no alarm"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _of_alarm(alarm: AlarmStatus, found: Status) -> Finding:
    """Return the finding for an alarm."""
    is_services = any(service.name == alarm.part for service in found.services)
    return Finding(
        level=Level.BAD,
        subject=f"alarm {alarm.name}",
        text=alarm.description or alarm.reason,
        next_step=f"./alva logs {alarm.part} --since 1h" if is_services else "./alva open",
        part=alarm.part,
    )


def _findings(found: Status) -> Iterator[Finding]:
    if found.asleep is None:
        for service in found.services:
            yield from _of_service(service)
        for alarm in found.alarms:
            yield _of_alarm(alarm, found)
    for stack in found.stacks:
        if stack.status == MISSING:
            yield Finding(
                level=Level.BAD, subject=f"stack {stack.name}", text="does not exist", next_step="./alva deploy"
            )
        elif stack.status.endswith("_FAILED") or stack.status == "ROLLBACK_COMPLETE":
            yield Finding(level=Level.BAD, subject=f"stack {stack.name}", text=stack.status, next_step="./alva why")
    release = found.release
    if release is not None and found.lock is None and release.outcome in (FAILED, ROLLED_BACK, INTERRUPTED):
        interrupted = release.outcome == INTERRUPTED
        yield Finding(
            level=Level.BAD if release.outcome == FAILED else Level.WARNING,
            subject=f"release {release.number}",
            text=release.outcome_in_words,
            next_step="./alva deploy" if interrupted else f"./alva why --release {release.number}",
        )
    for drift in found.drifts:
        yield Finding(
            level=Level.WARNING,
            subject="drift",
            text=f"{drift.subject}: {drift.message}",
            next_step="./alva deploy" if drift.repair is not None else drift.next_step,
            part=drift.subject if drift.subject in {service.name for service in found.services} else "",
        )


def _of_service(service: ServiceStatus) -> Iterator[Finding]:
    def finding(level: Level, text: str, next_step: str = "") -> Finding:
        return Finding(
            level=level,
            subject=service.name,
            text=text,
            next_step=next_step or f"./alva why {service.name}",
            part=service.name,
        )

    if service.deployment == MISSING:
        yield finding(Level.BAD, "does not exist", "./alva deploy")
        return
    failing = [each for each in service.deployments if each.state == "FAILED"]
    failing += [each for each in service.deployments if each.state == "IN_PROGRESS" and each.failed]
    starting = any(each.state == "IN_PROGRESS" for each in service.deployments) and not failing
    count = tasks_run(service.running, service.desired)
    if service.desired == 0:
        yield finding(Level.WARNING, "0 tasks: its desired count is 0", "./alva deploy")
    elif service.running < service.desired:
        yield finding(Level.BUSY if starting else Level.BAD if service.running == 0 else Level.WARNING, count)
    for deployment in failing:
        text = f"its last deployment is {deployment.state}"
        text += f", {_count(deployment.failed, 'task')} failed" if deployment.failed else ""
        yield finding(Level.BAD, f"{text}. {deployment.reason}" if deployment.state == "FAILED" else text)
    unhealthy = [target for target in service.targets if target.state == "unhealthy"]
    if unhealthy and not starting:
        reason = next((target.reason for target in unhealthy if target.reason), "")
        text = f"{len(unhealthy)} of {_count(len(service.targets), 'target')} unhealthy"
        serves = any(target.state == "healthy" for target in service.targets)
        yield finding(Level.WARNING if serves else Level.BAD, f"{text}: {reason}" if reason else text)
    sick = [task for task in service.tasks if task.status == "RUNNING" and task.health == "UNHEALTHY"]
    if sick and not unhealthy:
        yield finding(
            Level.BAD if len(sick) >= service.running else Level.WARNING, f"{_count(len(sick), 'task')} unhealthy"
        )
