"""Reverts the drift that `drift.py` found, and waits until the services run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alva.aws import Aws, error_code, explained
from alva.errors import AlvaError
from alva.release import rollout
from alva.release.drift import MissingLogGroup, Repair, RestoreService
from alva.release.manifest import Manifest


def revert_drift(aws: Aws, manifest: Manifest, repairs: Sequence[Repair]) -> None:
    """Revert the drift, and return when the services run it.

    Raises AlvaError where a service's new deployment fails.
    """
    for repair in repairs:
        if isinstance(repair, MissingLogGroup):
            _make_log_group(aws, repair, manifest.tags)
    services = [repair for repair in repairs if isinstance(repair, RestoreService)]
    before = {repair.service: _deployment(aws, manifest, repair.service) for repair in services}
    for repair in services:
        arguments: dict[str, Any] = {"taskDefinition": repair.task_definition} if repair.needs_deployment else {}
        if repair.desired_count is not None:
            arguments["desiredCount"] = repair.desired_count
        with explained(f"revert the drift of {repair.service}"):
            aws.ecs.update_service(
                cluster=manifest.cluster,
                service=repair.service,
                forceNewDeployment=repair.needs_deployment,
                **arguments,
            )
    pending = {repair.service: repair for repair in services}

    def all_reverted() -> bool | None:
        found = rollout.describe_services(aws, manifest)
        for name, repair in list(pending.items()):
            deployment = _deployment(aws, manifest, name)
            arn, status = deployment
            if repair.needs_deployment and arn == before[name][0]:
                continue
            if repair.needs_deployment and status in rollout.DEPLOYMENT_ENDED and status != "SUCCESSFUL":
                raise AlvaError(
                    f"cannot revert the drift of {name}: its last deployment is {status}",
                    next_step=f"./alva why {manifest.service(name).name}",
                )
            service = found[name]
            if (status == "SUCCESSFUL" or not repair.needs_deployment) and (
                service["runningCount"] == service["desiredCount"]
            ):
                del pending[name]
        return None if pending else True

    aws.poll.until(all_reverted, timeout_seconds=900, what=f"the tasks of {', '.join(pending)}")


def _make_log_group(aws: Aws, repair: MissingLogGroup, tags: Mapping[str, str]) -> None:
    """Create the log group as CloudFormation would, with the stack's tags."""
    with explained(f"create log group {repair.name} again"):
        try:
            aws.logs.create_log_group(logGroupName=repair.name, tags=dict(tags))
        except Exception as error:
            if error_code(error) != "ResourceAlreadyExistsException":
                raise
        if repair.retention_days is not None:
            aws.logs.put_retention_policy(logGroupName=repair.name, retentionInDays=repair.retention_days)


def _deployment(aws: Aws, manifest: Manifest, service: str) -> tuple[str, str]:
    """Return ARN and status of a service's newest deployment; empty if there is none."""
    found = rollout.last_deployment(aws, manifest, manifest.service(service))
    return (found["serviceDeploymentArn"], found["status"]) if found is not None else ("", "")
