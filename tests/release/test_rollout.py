"""What is said of a service while it is rolled out."""

from __future__ import annotations

from typing import Any

import pytest

from alva.release.rollout import task_counts


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
