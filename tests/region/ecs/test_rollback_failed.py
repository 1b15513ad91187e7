"""A service whose rollback fails too: ECS's status, and its recovery."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from alva.aws import Aws, Target
from alva.release import drift_repairs, rollout
from alva.release.drift import MissingLogGroup, RestoreService
from alva.release.manifest import Manifest
from tests.release.conftest import manifest_values
from tests.waiting import until

from .workbench import SERVER, Workbench

pytestmark = pytest.mark.region

LOGS = "/tests/rollback-failed"


def test_next_update_recovers_a_service_whose_rollback_failed(workbench: Workbench, tmp_path: Path) -> None:
    """Without its log group no task of either version starts (AWS: "ResourceInitializationError")."""
    logs, ecs = workbench.client("logs"), workbench.ecs
    logs.create_log_group(logGroupName=LOGS)
    container = {
        "name": "web",
        "image": workbench.image(SERVER),
        "essential": True,
        "logConfiguration": {
            **workbench.logs,
            "options": {**workbench.logs["options"], "awslogs-group": LOGS},
        },
    }
    good, other = (
        workbench.task_definition("stuck", {**container, "environment": [{"name": "PORT", "value": port}]})
        for port in ("3000", "3001")
    )
    breaker = {"enable": True, "rollback": True, "thresholdConfiguration": {"type": "COUNT", "value": 2}}
    workbench.create_service("stuck", good, deploymentConfiguration={"deploymentCircuitBreaker": breaker})
    assert workbench.deployed("stuck")["status"] == "SUCCESSFUL"

    logs.delete_log_group(logGroupName=LOGS)
    (running,) = workbench.tasks_of("stuck")
    ecs.stop_task(cluster=workbench.cluster, task=running["taskArn"])
    until(lambda: workbench.service("stuck")["runningCount"] == 0)
    ecs.update_service(cluster=workbench.cluster, service="stuck", taskDefinition=other)
    assert workbench.deployed("stuck", seconds=120)["status"] == "ROLLBACK_FAILED"
    until(lambda: workbench.service("stuck")["runningCount"] == 0)

    manifest = Manifest.from_values(manifest_values("stuck"), tmp_path)
    service = replace(manifest.services[0], service="stuck")
    manifest = replace(manifest, cluster=workbench.cluster, services=(service,))
    aws = Aws(Target.local(workbench.config.endpoint_url))
    back = RestoreService(service="stuck", task_definition=good, desired_count=1, needs_deployment=True)
    drift_repairs.revert_drift(aws, manifest, [MissingLogGroup(name=LOGS, retention_days=7), back])
    deployment = rollout.last_deployment(aws, manifest, service)
    assert deployment is not None
    assert deployment["status"] == "SUCCESSFUL"
    until(lambda: [task["lastStatus"] for task in workbench.tasks_of("stuck")] == ["RUNNING"])
    ecs.delete_service(cluster=workbench.cluster, service="stuck", force=True)
