"""Memory limits: a container that needs more is killed, as on Fargate."""

from __future__ import annotations

import pytest

from alva.region import daemon

from .workbench import Workbench

pytestmark = pytest.mark.region

GREEDY = """
import os
taken = []
for _ in range(int(os.environ["MEBIBYTES"])):
    taken.append(b"x" * 2**20)
print("took it")
"""


@pytest.fixture(autouse=True)
def _limited(workbench: Workbench) -> None:
    limits = daemon.status(workbench.config).memory_limits
    if not limits.startswith("enforced"):
        pytest.skip(f"memory limits are {limits}")


def greedy(workbench: Workbench, mebibytes: int, **more: int) -> str:
    environment = [{"name": "MEBIBYTES", "value": str(mebibytes)}]
    image = workbench.image(GREEDY, "greedy")
    return workbench.task_definition("greedy", {"name": "main", "image": image, "environment": environment, **more})


def test_a_container_over_its_limit_is_killed_with_awss_reason(workbench: Workbench) -> None:
    task = workbench.stopped(workbench.run(greedy(workbench, 200, memory=64)))
    (container,) = task["containers"]
    assert container["exitCode"] == 137
    assert container["reason"] == "OutOfMemoryError: Container killed due to memory usage"
    assert task["stoppedReason"] == "Essential container in task exited"


def test_the_tasks_limit_holds_for_a_container_without_one(workbench: Workbench) -> None:
    task = workbench.stopped(workbench.run(greedy(workbench, 700)))
    (container,) = task["containers"]
    assert (container["exitCode"], container["reason"][:17]) == (137, "OutOfMemoryError:")


def test_within_the_limit_nothing_is_killed(workbench: Workbench) -> None:
    task = workbench.stopped(workbench.run(greedy(workbench, 30, memory=64)))
    (container,) = task["containers"]
    assert container["exitCode"] == 0
    assert "reason" not in container
