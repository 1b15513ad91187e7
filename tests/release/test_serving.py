"""Which image serves, according to ECS and the load balancer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from alva.release.serving import (
    address_of,
    digests_of,
    other_images,
    problem_of_targets,
    stopping_tasks_of,
    tasks_of,
)

GOOD, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
INDEX = "sha256:" + "c" * 64


def task(image: str, *, image_digest: str | None = None, status: str = "RUNNING") -> Any:
    container = {"name": "api", "image": image, **({"imageDigest": image_digest} if image_digest else {})}
    return {
        "taskArn": "arn:aws:ecs:us-east-1:1:task/cluster/abc",
        "lastStatus": status,
        "containers": [{"name": "worker", "image": f"r@{GOOD}"}, container],
        "attachments": [
            {"details": [{"name": "subnetId", "value": "s"}, {"name": "privateIPv4Address", "value": "10.0.1.5"}]}
        ],
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (task(f"registry/alva-api@{GOOD}"), []),
        (task(f"registry/alva-api@{GOOD}", image_digest=OTHER), []),
        (task("registry/alva-api:latest", image_digest=GOOD), []),
        (task(f"registry/alva-api@{OTHER}"), [f"task abc runs {'b' * 12}, not {'a' * 12}"]),
        (task("registry/alva-api:latest"), [f"task abc runs an image without a digest, not {'a' * 12}"]),
        (task(f"registry/alva-api@{OTHER}", status="PENDING"), []),
    ],
    ids=["by digest", "an index", "by tag", "another image", "a tag alone", "not running yet"],
)
def test_each_running_task_is_of_the_image_that_should_serve(given: Any, said: list[str]) -> None:
    assert other_images([given], "api", GOOD) == said


def test_one_task_of_another_image_is_found_among_many() -> None:
    tasks = [task(f"r@{GOOD}"), task(f"r@{GOOD}"), task(f"r@{OTHER}")]
    assert len(other_images(tasks, "api", GOOD)) == 1
    assert digests_of(tasks[2], "api") == {OTHER}
    assert digests_of(tasks[2], "nothing") == frozenset()


def target(address: str, state: str = "healthy", reason: str = "") -> Any:
    return {"Target": {"Id": address}, "TargetHealth": {"State": state, **({"Reason": reason} if reason else {})}}


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        ([target("10.0.1.5")], None),
        ([target("10.0.1.5"), target("10.0.1.4", "draining")], None),
        ([target("10.0.1.5", "unhealthy", "Target.ResponseCodeMismatch")], "10.0.1.5 is unhealthy: Target.Resp"),
        ([], "no target is healthy"),
        ([target("10.0.1.4", "draining")], "no target is healthy"),
        ([target("10.0.1.5"), target("10.0.1.9")], "10.0.1.9 is healthy, but no running task has this address"),
        ([target("10.0.1.9")], "10.0.1.9 is healthy, but no running task has this address"),
    ],
    ids=["its task", "the former drains", "unhealthy", "none", "only the former", "one more", "another alone"],
)
def test_load_balancer_serves_from_the_tasks_and_from_nothing_else(targets: list[Any], problem: str | None) -> None:
    assert address_of(task("r")) == "10.0.1.5"
    found = problem_of_targets(targets, {"10.0.1.5"})
    assert found is None if problem is None else (found or "").startswith(problem)


def test_task_that_gets_no_requests_is_found() -> None:
    assert problem_of_targets([target("10.0.1.5")], {"10.0.1.5", "10.0.1.6"}) == "the task at 10.0.1.6 is not a target"


LAST_STATUSES = {"RUNNING": ["RUNNING"], "STOPPED": ["DEACTIVATING", "STOPPED"]}
"""Desired status -> last status of each task."""


class Ecs:
    """An ECS with one task that runs, one that drains and one that has stopped."""

    def get_paginator(self, _: str) -> Any:
        return SimpleNamespace(
            paginate=lambda desiredStatus="RUNNING", **_: [{"taskArns": LAST_STATUSES[desiredStatus]}]
        )

    def describe_tasks(self, *, tasks: list[str], **_: str) -> Any:
        return {"tasks": [{"lastStatus": status} for status in tasks]}


def test_tasks_that_drain_are_listed_apart_from_those_that_run() -> None:
    aws, manifest, service = (
        cast(Any, SimpleNamespace(**values)) for values in ({"ecs": Ecs()}, {"cluster": "c"}, {"service": "s"})
    )
    assert tasks_of(aws, manifest, service) == [{"lastStatus": "RUNNING"}]
    assert stopping_tasks_of(aws, manifest, service) == [{"lastStatus": "DEACTIVATING"}]
