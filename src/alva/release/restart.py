"""Restarts services one task after another, so that they read their secrets again.

First, a new task checks that it can sign in with the stored secrets: working tasks are not replaced by tasks that
cannot. The image does not change: the task definition names it by digest, so a forced deployment changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from alva.aws import Aws, explained
from alva.errors import AlvaError, PreflightRefused, UsageError, VerificationFailed
from alva.release import rollout
from alva.release.dependency_checks import PATIENCE_SECONDS, DependencyChecks, failures, next_step_of
from alva.release.manifest import Manifest, Service

Line = Callable[[str], None]

TIMEOUT_SECONDS = 900

SIGN_IN_SECONDS = 15
"""The database and the cache can refuse a new password for a moment after it is set."""


def restart(aws: Aws, manifest: Manifest, services: Sequence[Service], line: Line) -> None:
    """Replace all tasks of the services; return when the new ones serve and reach their dependencies.

    Raises UsageError for a service that does not run, PreflightRefused where a new task cannot sign in (no task is
    replaced then), AlvaError with the deployment that failed, and VerificationFailed where a service cannot reach its
    dependencies after the restart.
    """
    running = rollout.describe_services(aws, manifest)
    if missing := [service.name for service in services if service.service not in running]:
        raise UsageError(
            f"cannot restart {', '.join(missing)}: it does not run yet", next_step="./alva deploy starts it"
        )
    _refuse_what_cannot_sign_in(aws, manifest, services)
    before = {service.name: _newest_deployment(aws, manifest, service) for service in services}
    for service in services:
        with explained(f"restart {service.name}"):
            aws.ecs.update_service(cluster=manifest.cluster, service=service.service, forceNewDeployment=True)
        line(f"{service.name} is being restarted")
    pending = {service.name: service for service in services}

    def all_replaced() -> bool | None:
        for name, service in list(pending.items()):
            deployment = rollout.last_deployment(aws, manifest, service)
            if deployment is None or deployment["serviceDeploymentArn"] == before[name]:
                continue
            status = deployment["status"]
            if status == "SUCCESSFUL":
                line(f"{name} runs new tasks")
                del pending[name]
            elif status in rollout.DEPLOYMENT_ENDED:
                raise AlvaError(
                    f"cannot restart {name}: its last deployment is {status}; the former tasks serve",
                    evidence=[deployment.get("statusReason", "")],
                    next_step=f"./alva why {name}",
                )
        return None if pending else True

    aws.poll.until(all_replaced, timeout_seconds=TIMEOUT_SECONDS, what=f"new tasks of {', '.join(pending)}")
    line("checking what the new tasks can reach")
    if failed := failures(DependencyChecks(aws, manifest).run(patience_seconds=PATIENCE_SECONDS)):
        raise VerificationFailed(
            "cannot verify the restart: services cannot reach their dependencies",
            evidence=failed,
            next_step=next_step_of(manifest, failed)
            or "./alva secrets list shows when each secret changed; ./alva secrets set NAME --restart",
        )


def _refuse_what_cannot_sign_in(aws: Aws, manifest: Manifest, services: Sequence[Service]) -> None:
    """Raise PreflightRefused where a new task of a service cannot use the database or the queue."""
    if manifest.deep_checked is None or manifest.deep_checked.name not in [service.name for service in services]:
        return
    if failed := failures(DependencyChecks(aws, manifest).run(services=(), patience_seconds=SIGN_IN_SECONDS)):
        raise PreflightRefused(
            f"cannot restart {', '.join(service.name for service in services)}: a new task cannot sign in to the "
            "database or the cache with the stored secrets; no task was replaced",
            evidence=failed,
            next_step=next_step_of(manifest, failed) or "./alva verify",
        )


def _newest_deployment(aws: Aws, manifest: Manifest, service: Service) -> str | None:
    deployment = rollout.last_deployment(aws, manifest, service)
    return deployment["serviceDeploymentArn"] if deployment is not None else None
