"""Finds why something does not run: gathers what AWS reports, diagnoses it, and stores the causes of failed releases.

ECS forgets a stopped task after an hour, so the causes of a release are stored in a parameter's history.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from alva.aws import Aws, error_code, explained, pages
from alva.errors import AlvaError, MigrationFailed, RollbackFailed, RolledBack, StackFailed
from alva.release.causes import PLATFORM, Source
from alva.release.diagnosis import Diagnosis, Failure, diagnose, reported
from alva.release.history import PARAMETER_BYTES, History
from alva.release.manifest import Manifest, Service
from alva.release.stacks import Stacks, first_failure

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import ContainerDefinitionOutputTypeDef, ServiceTypeDef, TaskTypeDef

RECENT = timedelta(minutes=15)
"""Failures of tasks count as current for this long."""

LOG_LINES = 25
"""The number of a failed container's log lines to read."""

ORDINARY_REASONS = ("Scaling activity initiated by", "Task stopped by user")
"""Stopped reasons of tasks that did not fail: old tasks of a rollout, or tasks that a person stopped."""

ENDED = re.compile(r"container (\S+) ended with exit code (\d+)")
"""The text of a one-off task's end (`oneoff`)."""

TELLING_EVENTS = ("is unhealthy in", "failed container health checks", "unable to", "alarm", "circuit breaker")


@dataclass(frozen=True, kw_only=True)
class FailedRelease:
    """The stored causes of one failed release."""

    release: int
    message: str
    exit_code: int
    causes: tuple[Diagnosis, ...]

    def as_json(self) -> dict[str, object]:
        """Return the fields as a dictionary."""
        return {
            "release": self.release,
            "message": self.message,
            "exit_code": self.exit_code,
            "causes": [cause.as_json() for cause in self.causes],
        }


def causes_of(aws: Aws, manifest: Manifest, error: AlvaError, *, since: datetime) -> tuple[Diagnosis, ...]:
    """Return the causes of a failed release: from each service's failed tasks, or else from the error."""
    try:
        found = services_causes(aws, manifest, since=since)
    except AlvaError:
        found = []  # an error here must not hide the failure
    if found:
        return tuple(found)
    told = (*reported(_source(error), error.evidence), *reported(Source.RELEASE, [error.message]))
    exit_codes = tuple((name, int(code)) for each in told for name, code in ENDED.findall(each.text))
    generated = manifest.generated_secret
    failure = Failure(
        subject=_subject(error),
        said=told,
        exit_codes=exit_codes,
        generated_name=generated.short_name if generated is not None else "NAME",
    )
    return (diagnose(failure),)


def services_causes(
    aws: Aws, manifest: Manifest, *, since: datetime | None = None, names: Sequence[str] = ()
) -> list[Diagnosis]:
    """Diagnose each service with failed tasks (since then), in the order of failure."""
    services = [manifest.service(name) for name in names] or list(manifest.services)
    found = _describe_services(aws, manifest, services)
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="why") as pool:
        readings = pool.map(lambda s: _read_failure(aws, manifest, s, found.get(s.service), since), services)
        failures = [each for each in readings if each is not None]
    return [diagnose(failure) for _, failure in sorted(failures, key=lambda item: item[0])]


def stacks_causes(aws: Aws, manifest: Manifest) -> list[Diagnosis]:
    """Diagnose each stack in a failed state."""
    found = []
    for stack in manifest.stacks:
        observed = Stacks(aws).observe(stack.name, with_template=False)
        if observed is None or not (observed.status.endswith("_FAILED") or observed.status == "ROLLBACK_COMPLETE"):
            continue
        with explained(f"read the events of stack {stack.name}"):
            events = list(
                pages(aws.cloudformation, "describe_stack_events", "StackEvents", StackName=observed.stack_id)
            )
        told = reported(Source.STACK, [*first_failure(events[::-1]), f"the stack is {observed.status}"])
        found.append(diagnose(Failure(subject=stack.name, said=told)))
    return found


class FailedReleases:
    """The stored causes of failed releases."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._history = History(
            aws,
            manifest.parameters.causes,
            of="the record of why releases failed",
            description="Why releases of this environment failed",
            read=lambda text, _: _from_text(text),
        )
        self.parameter_name = self._history.parameter_name

    def keep(self, failed: FailedRelease) -> None:
        """Store it, with as much evidence as a parameter can hold."""
        self._history.add(_to_text(failed))

    def find(self, release: int | None = None) -> FailedRelease | None:
        """Return the causes of that release, or of the last failed one; None if there are none."""
        if release is None:
            return self._history.latest()
        return next((failed for failed in self._history.all() if failed.release == release), None)


def _to_text(failed: FailedRelease) -> str:
    for lines in (12, 6, 3, 1, 0):
        causes = tuple(replace(cause, evidence=cause.evidence[:lines]) for cause in failed.causes[:8])
        text = json.dumps(replace(failed, causes=causes).as_json(), separators=(",", ":"))
        if len(text.encode()) <= PARAMETER_BYTES:
            return text
    return json.dumps(replace(failed, message=failed.message[:500], causes=()).as_json())


def _from_text(text: str) -> FailedRelease:
    values: dict[str, Any] = json.loads(text)
    causes = tuple(
        Diagnosis(
            subject=cause["subject"],
            kind=cause["kind"],
            cause=cause["cause"],
            evidence=tuple(cause["evidence"]),
            next_step=cause["next"],
        )
        for cause in values["causes"]
    )
    return FailedRelease(
        release=values["release"], message=values["message"], exit_code=values["exit_code"], causes=causes
    )


def _source(error: BaseException | None) -> Source:
    """Return the origin of an error's evidence; an error raised from another has that one's."""
    if isinstance(error, MigrationFailed):
        return Source.TASK
    if isinstance(error, StackFailed | RollbackFailed):
        return Source.STACK
    if isinstance(error, RolledBack) and error.__cause__ is None:
        return Source.SERVICE  # the reason of ECS's deployment
    return _source(error.__cause__) if isinstance(error, AlvaError) else Source.RELEASE


def _subject(error: AlvaError) -> str:
    words = error.message.split()
    if "migrate:" in words:
        return "migration"
    return words[words.index("stack") + 1].rstrip(":") if "stack" in words[:-1] else "release"


def _describe_services(aws: Aws, manifest: Manifest, services: Sequence[Service]) -> dict[str, ServiceTypeDef]:
    from alva.release.rollout import describe_services

    return describe_services(aws, replace(manifest, services=tuple(services)))


def _read_failure(
    aws: Aws, manifest: Manifest, service: Service, found: ServiceTypeDef | None, since: datetime | None
) -> tuple[datetime, Failure] | None:
    """Return the time and the facts of the service's first failure; None without a failure."""
    failed = [task for task in _stopped_tasks(aws, manifest, service, since) if _is_failure(task)]
    events = [
        event["message"]
        for event in (found or {}).get("events", [])
        if (since is None or event["createdAt"] >= since) and any(text in event["message"] for text in TELLING_EVENTS)
    ]
    if not failed:
        waiting = [event for event in events if "unable to" in event]
        if not waiting or found is None:
            return None
        return found["createdAt"], Failure(
            subject=service.name, said=reported(Source.SERVICE, list(dict.fromkeys(waiting))[:3])
        )
    task = most_telling(failed)
    task_id = task["taskArn"].rpartition("/")[2]
    definitions = _containers(aws, task)
    reasons = [task.get("stoppedReason", ""), *(c["reason"] for c in task.get("containers", []) if c.get("reason"))]
    # An event names the task or its address; other tasks' events are skipped.
    of_task = [event for event in events if task_id in event]
    of_service = [event for event in events if "(task " not in event]
    exit_codes = tuple((c.get("name", ""), c["exitCode"]) for c in task.get("containers", []) if "exitCode" in c)
    culprits = [name for name, code in exit_codes if code not in (0, 143)] or list(definitions)
    logs = [line for name in culprits for line in _last_log_lines(aws, service, task_id, definitions.get(name))]
    started, ended = task.get("startedAt"), task.get("stoppingAt") or task.get("stoppedAt")
    return task["createdAt"], Failure(
        subject=service.name,
        said=tuple(
            dict.fromkeys((*reported(Source.TASK, reasons), *reported(Source.SERVICE, [*of_task, *of_service])))
        ),
        exit_codes=exit_codes,
        logs=tuple(logs),
        port=service.port,
        grace_seconds=(found or {}).get("healthCheckGracePeriodSeconds"),
        ran_seconds=(ended - started) / timedelta(seconds=1) if started and ended else None,
        count=len(failed),
    )


def _stopped_tasks(aws: Aws, manifest: Manifest, service: Service, since: datetime | None) -> list[TaskTypeDef]:
    with explained(f"read the stopped tasks of {service.service}"):
        try:
            arns = aws.ecs.list_tasks(
                cluster=manifest.cluster, serviceName=service.service, desiredStatus="STOPPED", maxResults=100
            )["taskArns"]
        except Exception as error:
            if error_code(error) not in ("ServiceNotFoundException", "ClusterNotFoundException"):
                raise
            arns = _tasks_of_family(aws, manifest, service)
        if not arns:
            return []
        tasks = aws.ecs.describe_tasks(cluster=manifest.cluster, tasks=arns)["tasks"]
    recent = [task for task in tasks if since is None or task.get("stoppedAt", task["createdAt"]) >= since]
    return sorted(recent, key=lambda task: task["createdAt"])


def _tasks_of_family(aws: Aws, manifest: Manifest, service: Service) -> list[str]:
    """Return the tasks of the service's family: a failed first creation deletes the service, but ECS still lists
    them.
    """
    try:
        return aws.ecs.list_tasks(
            cluster=manifest.cluster, family=service.service, desiredStatus="STOPPED", maxResults=100
        )["taskArns"]
    except Exception as error:
        if error_code(error) == "ClusterNotFoundException":
            return []
        raise


def _is_failure(task: TaskTypeDef) -> bool:
    reason = task.get("stoppedReason", "")
    return bool(reason) and not reason.startswith(ORDINARY_REASONS)


def most_telling(failed: Sequence[TaskTypeDef]) -> TaskTypeDef:
    """Return the first task that failed itself; otherwise the first whose machine went away."""
    own = [t for t in failed if not any(re.search(known.pattern, t.get("stoppedReason", "")) for known in PLATFORM)]
    return (own or failed)[0]


def _containers(aws: Aws, task: TaskTypeDef) -> dict[str, ContainerDefinitionOutputTypeDef]:
    try:
        definition = aws.ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])["taskDefinition"]
    except Exception as error:
        if error_code(error):
            return {}
        raise
    return {container["name"]: container for container in definition.get("containerDefinitions", [])}


def _last_log_lines(
    aws: Aws, service: Service, task_id: str, container: ContainerDefinitionOutputTypeDef | None
) -> list[str]:
    """Return the end of a container's log stream, whose name is PREFIX/CONTAINER/TASK-ID."""
    if container is None:
        return []
    options = container.get("logConfiguration", {}).get("options", {})
    try:
        events = aws.logs.get_log_events(
            logGroupName=options.get("awslogs-group", service.log_group),
            logStreamName=f"{options.get('awslogs-stream-prefix')}/{container['name']}/{task_id}",
            limit=LOG_LINES,
        )["events"]
    except Exception as error:
        if error_code(error):
            return []  # a missing log must not hide the rest
        raise
    return [event["message"] for event in events]
