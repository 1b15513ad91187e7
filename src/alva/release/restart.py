"""Restart services one task after another, so that they read their secrets again.

ECS keeps the image that runs: the task definition names it by digest, so a forced deployment changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from alva.aws import Aws, explained
from alva.errors import AlvaError, UsageError
from alva.release import rollout
from alva.release.manifest import Manifest, Service

Line = Callable[[str], None]

TIMEOUT_SECONDS = 900


def restart(aws: Aws, manifest: Manifest, services: Sequence[Service], line: Line) -> None:
    """Replace every task of the services, and return when the new ones serve.

    Raises UsageError for a service that does not run, AlvaError naming the deployment that did not succeed.
    """
    running = rollout.describe_services(aws, manifest)
    if missing := [service.name for service in services if service.service not in running]:
        raise UsageError(
            f"cannot restart {', '.join(missing)}: nothing runs there yet", next_step="./alva deploy starts it"
        )
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
                    f"cannot restart {name}: its deployment ended as {status}; the tasks of before serve",
                    evidence=[deployment.get("statusReason", "")],
                    next_step=f"./alva why {name}",
                )
        return None if pending else True

    aws.poll.until(all_replaced, timeout_seconds=TIMEOUT_SECONDS, what=f"new tasks of {', '.join(pending)}")


def _newest_deployment(aws: Aws, manifest: Manifest, service: Service) -> str | None:
    deployment = rollout.last_deployment(aws, manifest, service)
    return deployment["serviceDeploymentArn"] if deployment is not None else None
