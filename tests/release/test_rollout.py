"""The progress of a service's rollout."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from alva.aws import Aws
from alva.release.manifest import Manifest
from alva.release.rollout import last_deployment, task_counts


def deployment(status: str, rollout: str, running: int, desired: int, failed: int = 0) -> dict[str, Any]:
    return {
        "status": status,
        "rolloutState": rollout,
        "runningCount": running,
        "desiredCount": desired,
        "failedTasks": failed,
    }


@pytest.mark.parametrize(
    ("deployments", "said"),
    [
        ([deployment("PRIMARY", "COMPLETED", 2, 2)], None),
        ([], None),
        (
            [deployment("PRIMARY", "IN_PROGRESS", 1, 2), deployment("ACTIVE", "COMPLETED", 2, 2)],
            "alva-web: 1 of 2 new tasks run, 2 old",
        ),
        (
            [deployment("PRIMARY", "IN_PROGRESS", 0, 2, failed=3), deployment("ACTIVE", "COMPLETED", 2, 2)],
            "alva-web: 0 of 2 new tasks run, 3 failed, 2 old",
        ),
    ],
)
def test_old_and_new_tasks_are_counted_while_something_is_under_way(
    deployments: list[dict[str, Any]], said: str | None
) -> None:
    service: Any = {"serviceName": "alva-web", "deployments": deployments}
    assert task_counts(service) == said


def test_newest_deployment_is_found_on_whatever_page_it_is(
    aws: Aws, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    briefs = [
        {"serviceDeploymentArn": f"arn-{day}", "createdAt": datetime(2026, 11, day, tzinfo=UTC)} for day in range(1, 6)
    ]

    def list_page(**arguments: Any) -> dict[str, Any]:
        start = int(arguments.get("nextToken", 0))
        more = {"nextToken": str(start + 2)} if start + 2 < len(briefs) else {}
        return {"serviceDeployments": briefs[start : start + 2], **more}

    monkeypatch.setattr(aws.ecs, "list_service_deployments", list_page)
    monkeypatch.setattr(
        aws.ecs,
        "describe_service_deployments",
        lambda serviceDeploymentArns: {"serviceDeployments": [{"serviceDeploymentArn": serviceDeploymentArns[0]}]},
    )
    found = last_deployment(aws, manifest, manifest.service("web"))
    assert found is not None
    assert found["serviceDeploymentArn"] == "arn-5"
