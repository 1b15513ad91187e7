"""Reverts the drift that `drift.py` found, and waits until the services run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alva.aws import Aws, error_code, explained
from alva.errors import AlvaError
from alva.release import rollout
from alva.release.drift import Cure, MissingLogGroup, RestoreService
from alva.release.manifest import Manifest


def heal(aws: Aws, manifest: Manifest, cures: Sequence[Cure]) -> None:
    """Revert the drift, and return when the services run it.

    Raises AlvaError where a service's new deployment fails.
    """
    for cure in cures:
        if isinstance(cure, MissingLogGroup):
            _make_log_group(aws, cure, manifest.tags)
    services = [cure for cure in cures if isinstance(cure, RestoreService)]
    before = {cure.service: _deployment(aws, manifest, cure.service) for cure in services}
    for cure in services:
        arguments: dict[str, Any] = {"taskDefinition": cure.task_definition} if cure.needs_deployment else {}
        if cure.desired_count is not None:
            arguments["desiredCount"] = cure.desired_count
        with explained(f"restore {cure.service} to its stack's template"):
            aws.ecs.update_service(
                cluster=manifest.cluster, service=cure.service, forceNewDeployment=cure.needs_deployment, **arguments
            )
    pending = {cure.service: cure for cure in services}

    def all_back() -> bool | None:
        found = rollout.describe_services(aws, manifest)
        for name, cure in list(pending.items()):
            deployment = _deployment(aws, manifest, name)
            arn, status = deployment
            if cure.needs_deployment and arn == before[name][0]:
                continue
            if cure.needs_deployment and status in rollout.DEPLOYMENT_ENDED and status != "SUCCESSFUL":
                raise AlvaError(
                    f"cannot restore {name} to its stack's template: its last deployment is {status}",
                    next_step=f"./alva why {name.removeprefix('alva-')}",
                )
            service = found[name]
            if (status == "SUCCESSFUL" or not cure.needs_deployment) and (
                service["runningCount"] == service["desiredCount"]
            ):
                del pending[name]
        return None if pending else True

    aws.poll.until(all_back, timeout_seconds=900, what=f"the tasks of {', '.join(pending)}")


def _make_log_group(aws: Aws, cure: MissingLogGroup, tags: Mapping[str, str]) -> None:
    """Create the log group as CloudFormation would, with the stack's tags."""
    with explained(f"create log group {cure.name} again"):
        try:
            aws.logs.create_log_group(logGroupName=cure.name, tags=dict(tags))
        except Exception as error:
            if error_code(error) != "ResourceAlreadyExistsException":
                raise
        if cure.retention_days is not None:
            aws.logs.put_retention_policy(logGroupName=cure.name, retentionInDays=cure.retention_days)


def _deployment(aws: Aws, manifest: Manifest, service: str) -> tuple[str, str]:
    """Return ARN and status of a service's newest deployment; empty if there is none."""
    found = rollout.last_deployment(aws, manifest, manifest.service(service))
    return (found["serviceDeploymentArn"], found["status"]) if found is not None else ("", "")
