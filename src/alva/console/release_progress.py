"""Finds the steps of a release that another process runs, from the changes that it makes in AWS.

The lock shows that a release runs and when it began. Images, stack operations, the migration's task and deployments
that are newer than the lock belong to that release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from alva.aws import Aws, error_code, explained, pages
from alva.errors import AlvaError
from alva.release import why
from alva.release.ledger import SUCCEEDED, Ledger
from alva.release.manifest import Manifest
from alva.release.recording import RELEASING
from alva.release.status import Status

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackTypeDef


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """One step that has begun."""

    key: str
    title: str
    state: str
    """`running`, `done`, `failed` or `rolling back`."""
    started_at: str
    seconds: float | None
    """How long it took; None while it runs."""
    expected_seconds: float | None
    """How long it took in the last release that succeeded; None where that release did not have it."""
    detail: str = ""


class ReleaseProgress:
    """Follows releases, one after the other. Not safe for use by several threads at once."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._aws = aws
        self._manifest = manifest
        self._since: str | None = None
        self._expected: Mapping[str, float] = {}
        self._expected_total: float | None = None
        self._ended: dict[tuple[str, str], str] = {}
        """(stack, start) -> when the operation ended. This does not change, so it is read once."""

    def read(self, found: Status) -> dict[str, Any] | None:
        """Return the release that holds the lock, with its steps, or None where no release does."""
        if found.lock is None or not found.lock.what.startswith(RELEASING):
            self._since = None
            return None
        if self._since != found.lock.since:
            self._begin(found.lock.since)
        since = datetime.fromisoformat(found.lock.since)
        steps = [*self._images(since), *self._stacks(since), *self._migration(since)]
        steps.sort(key=lambda step: step.started_at)
        is_rolling_back = any(step.state in ("rolling back", "failed") for step in steps)
        return {
            "what": found.lock.what,
            "by": f"{found.lock.user} on {found.lock.host}",
            "started_at": found.lock.since,
            "expected_seconds": self._expected_total,
            "steps": [asdict(step) for step in steps],
            "is_rolling_back": is_rolling_back,
            "causes": self._causes(since) if is_rolling_back or _has_failures(found, since) else [],
        }

    def _begin(self, since: str) -> None:
        self._since = since
        self._ended = {}
        last = next((each for each in Ledger(self._aws, self._manifest).history() if each.outcome == SUCCEEDED), None)
        self._expected = last.step_seconds if last is not None else {}
        self._expected_total = last.seconds if last is not None else None

    def _step(
        self, key: str, title: str, state: str, start: datetime, end: datetime | None, detail: str
    ) -> StepProgress:
        return StepProgress(
            key=key,
            title=title,
            state=state,
            started_at=start.astimezone(UTC).isoformat(),
            seconds=(end - start).total_seconds() if end is not None else None,
            expected_seconds=self._expected.get(key),
            detail=detail,
        )

    def _images(self, since: datetime) -> Iterator[StepProgress]:
        for service in self._manifest.services:
            with explained(f"read the images of {service.repository}"):
                try:
                    images = list(
                        pages(self._aws.ecr, "describe_images", "imageDetails", repositoryName=service.repository)
                    )
                except Exception as error:
                    if error_code(error) != "RepositoryNotFoundException":
                        raise
                    continue
            pushed = [image for image in images if image["imagePushedAt"] >= since]
            if pushed:
                newest = max(pushed, key=lambda image: image["imagePushedAt"])
                at = newest["imagePushedAt"]
                yield self._step(
                    f"image:{service.name}",
                    f"publish the image of {service.name}",
                    "done",
                    at,
                    at,
                    newest["imageDigest"][7:19],
                )

    def _stacks(self, since: datetime) -> Iterator[StepProgress]:
        with explained("read the stacks"):
            every = {s["StackName"]: s for s in pages(self._aws.cloudformation, "describe_stacks", "Stacks")}
        for stack in self._manifest.stacks:
            found = every.get(stack.name)
            start = found.get("LastUpdatedTime") or found["CreationTime"] if found is not None else None
            if found is None or start is None or start < since:
                continue
            now = found["StackStatus"]
            if now == "REVIEW_IN_PROGRESS":
                continue
            is_busy = now.endswith("_IN_PROGRESS")
            state = "failed" if now.endswith("_FAILED") or "ROLLBACK_COMPLETE" in now else "done"
            state = ("rolling back" if "ROLLBACK" in now else "running") if is_busy else state
            end = None if is_busy else self._end_of(found, start)
            detail = now if state != "done" else ""
            yield self._step(f"stack:{stack.name}", f"stack {stack.name}", state, start, end, detail)

    def _end_of(self, stack: StackTypeDef, start: datetime) -> datetime:
        key = (stack["StackName"], start.isoformat())
        if key not in self._ended:
            with explained(f"read the events of stack {stack['StackName']}"):
                events = self._aws.cloudformation.describe_stack_events(StackName=stack["StackName"])["StackEvents"]
            own = (event["Timestamp"] for event in events if event["PhysicalResourceId"] == stack.get("StackId"))
            self._ended[key] = next(own, start).isoformat()
        return datetime.fromisoformat(self._ended[key])

    def _migration(self, since: datetime) -> Iterator[StepProgress]:
        manifest = self._manifest
        with explained("read the migration's tasks"):
            try:
                arns = [
                    arn
                    for desired in ("RUNNING", "STOPPED")
                    for arn in self._aws.ecs.list_tasks(
                        cluster=manifest.cluster,
                        family=manifest.migration.family,
                        desiredStatus=desired,
                    )["taskArns"]
                ]
            except Exception as error:
                if error_code(error) != "ClusterNotFoundException":
                    raise
                return
            tasks = self._aws.ecs.describe_tasks(cluster=manifest.cluster, tasks=arns)["tasks"] if arns else []
        for task in tasks:
            if task["createdAt"] < since:
                continue
            stopped = task.get("stoppedAt")
            codes = [container.get("exitCode") for container in task.get("containers", [])]
            failed = stopped is not None and any(code != 0 for code in codes)
            state = "failed" if failed else "done" if stopped is not None else "running"
            detail = task.get("stoppedReason", "") if failed else "" if stopped else task.get("lastStatus", "")
            yield self._step("migration", "migrate the database", state, task["createdAt"], stopped, detail)

    def _causes(self, since: datetime) -> list[dict[str, object]]:
        try:
            return [cause.as_json() for cause in why.services_causes(self._aws, self._manifest, since=since)]
        except AlvaError:
            return []  # the next reading tries again


def _has_failures(found: Status, since: datetime) -> bool:
    return any(
        deployment.failed > 0 and deployment.created_at is not None and deployment.created_at >= since
        for service in found.services
        for deployment in service.deployments
    )
