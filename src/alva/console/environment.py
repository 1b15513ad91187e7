"""What lives in an environment right now: services with old and new tasks, targets, alarms, and a release at work."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from alva.aws import Aws, explained, pages
from alva.console.release_progress import ReleaseProgress
from alva.release import rollout, status
from alva.release.manifest import Manifest, Service
from alva.release.status import ServiceStatus

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import DeploymentTypeDef, ServiceTypeDef

EVENTS = 8
"""How many of a service's events are shown, the newest first."""


class Environment:
    """Looks at one environment, again and again. Methods may be called from several threads."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._aws = aws
        self._manifest = manifest
        self._progress = ReleaseProgress(aws, manifest)
        self._lock = threading.Lock()

    def look(self) -> dict[str, Any]:
        """Everything that the first view shows, as values that JSON holds. Raises AlvaError."""
        with self._lock, ThreadPoolExecutor(max_workers=4, thread_name_prefix="console") as pool:
            alarms = pool.submit(self._alarms)
            details = pool.submit(rollout.describe_services, self._aws, self._manifest)
            found = status.look(self._aws, self._manifest)
            services = details.result()
            progress = self._progress.look(found, services)
            return {
                "environment": found.environment,
                "url": found.url,
                "at": datetime.now(UTC).isoformat(),
                "services": [self._service(each, services) for each in found.services],
                "stacks": [asdict(stack) for stack in found.stacks],
                "release": asdict(found.release) if found.release is not None else None,
                "lock": str(found.lock) if found.lock is not None else None,
                "asleep": asdict(found.asleep) if found.asleep is not None else None,
                "alarms": alarms.result(),
                "progress": progress,
            }

    def _service(self, found: ServiceStatus, services: Mapping[str, ServiceTypeDef]) -> dict[str, Any]:
        service = self._manifest.service(found.name)
        described = services.get(service.service, {})
        return {
            **asdict(found),
            "targets": self._targets(described),
            "deployments": [self._deployment(service, each) for each in described.get("deployments", [])],
            "events": [
                {"at": event["createdAt"].isoformat(), "message": event["message"]}
                for event in described.get("events", [])[:EVENTS]
            ],
        }

    def _deployment(self, service: Service, deployment: DeploymentTypeDef) -> dict[str, Any]:
        definition = deployment.get("taskDefinition", "")
        return {
            "status": deployment.get("status", ""),
            "state": deployment.get("rolloutState", ""),
            "reason": deployment.get("rolloutStateReason", ""),
            "running": deployment.get("runningCount", 0),
            "desired": deployment.get("desiredCount", 0),
            "pending": deployment.get("pendingCount", 0),
            "failed": deployment.get("failedTasks", 0),
            "task_definition": definition.rpartition("/")[2],
            "digest": rollout.running_digest(self._aws, definition, service.name) or "" if definition else "",
        }

    def _targets(self, described: ServiceTypeDef | dict[str, Any]) -> list[dict[str, str]]:
        targets = []
        for balancer in described.get("loadBalancers", []):
            with explained("look at target health"):
                answer = self._aws.elbv2.describe_target_health(TargetGroupArn=balancer["targetGroupArn"])
            targets += [
                {
                    "address": each["Target"]["Id"],
                    "state": each["TargetHealth"].get("State", ""),
                    "reason": each["TargetHealth"].get("Description", ""),
                }
                for each in answer["TargetHealthDescriptions"]
            ]
        return targets

    def _alarms(self) -> list[dict[str, str]]:
        """The alarms that are not OK, by name; alarms without data are not news."""
        with explained("look at the alarms"):
            found = pages(
                self._aws.client("cloudwatch"),
                "describe_alarms",
                "MetricAlarms",
                AlarmNamePrefix=f"{self._manifest.prefix}-",
                StateValue="ALARM",
            )
            return [
                {
                    "name": alarm["AlarmName"].removeprefix(f"{self._manifest.prefix}-"),
                    "description": alarm.get("AlarmDescription", ""),
                    "reason": alarm.get("StateReason", ""),
                    "since": alarm["StateUpdatedTimestamp"].isoformat(),
                }
                for alarm in found
            ]
