"""One-off tasks: the tool waits for a task that ECS does not return yet, and always stops a started task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from alva.aws import Aws
from alva.errors import AlvaError
from alva.release import oneoff
from alva.release.oneoff import OneOff

ARN = "arn:aws:ecs:us-east-1:000000000000:task/c/abc"
DONE = {"taskArn": ARN, "lastStatus": "STOPPED", "containers": [{"name": "job", "exitCode": 0}]}
ONE_OFF = OneOff(
    cluster="c", task_definition="job:1", container="job", subnets=("subnet-1",), security_groups=("sg-1",)
)

Answers = Callable[..., list[str]]


@pytest.fixture
def ecs(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Makes DescribeTasks return these in turn; returns the list of tasks for which StopTask was called."""

    def prepare(*answers: Any, stop: Exception | None = None) -> list[str]:
        stopped: list[str] = []
        queue = list(answers)

        def describe_tasks(**_: Any) -> Any:
            answer = queue.pop(0) if len(queue) > 1 else queue[0]
            if isinstance(answer, BaseException):
                raise answer
            return {"tasks": answer}

        def stop_task(**arguments: Any) -> Any:
            if stop is not None:
                raise stop
            stopped.append(arguments["task"])
            return {}

        definition = {"taskDefinition": {"containerDefinitions": [{"name": "job"}]}}
        monkeypatch.setattr(aws.ecs, "describe_task_definition", lambda **_: definition)
        monkeypatch.setattr(aws.ecs, "run_task", lambda **_: {"tasks": [{"taskArn": ARN}], "failures": []})
        monkeypatch.setattr(aws.ecs, "describe_tasks", describe_tasks)
        monkeypatch.setattr(aws.ecs, "stop_task", stop_task)
        return stopped

    return prepare


def run(aws: Aws) -> oneoff.Ended:
    return oneoff.run(aws, ONE_OFF, output=lambda _: None, state=lambda _: None)


def throttled(operation: str) -> ClientError:
    return ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, operation)


def test_task_that_ecs_does_not_return_yet_is_waited_for(aws: Aws, ecs: Answers) -> None:
    stopped = ecs([], [], [{**DONE, "lastStatus": "PENDING"}], [DONE])
    assert run(aws).succeeded
    assert stopped == []


def test_task_that_ecs_never_returns_is_stopped_and_named(
    aws: Aws, ecs: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oneoff, "UNKNOWN_SECONDS", 0.1)
    stopped = ecs([])
    with pytest.raises(AlvaError, match="ECS has no such task") as caught:
        run(aws)
    assert stopped == [ARN]
    assert f"task {ARN}: stopped" in caught.value.evidence


@pytest.mark.parametrize(
    "error",
    [throttled("DescribeTasks"), EndpointConnectionError(endpoint_url="http://x"), KeyError("tasks"), ValueError("?")],
    ids=lambda error: type(error).__name__,
)
def test_task_that_cannot_be_followed_is_stopped_and_named(aws: Aws, ecs: Answers, error: Exception) -> None:
    stopped = ecs([{**DONE, "lastStatus": "RUNNING"}], error)
    with pytest.raises(AlvaError, match="cannot follow task abc") as caught:
        run(aws)
    assert stopped == [ARN]
    assert f"task {ARN}: stopped" in caught.value.evidence


def test_task_that_can_neither_be_followed_nor_stopped_is_named(aws: Aws, ecs: Answers) -> None:
    ecs(throttled("DescribeTasks"), stop=throttled("StopTask"))
    with pytest.raises(AlvaError) as caught:
        run(aws)
    assert f"task {ARN}: it may still run, StopTask failed: ThrottlingException" in caught.value.evidence


def test_interrupted_task_is_stopped(aws: Aws, ecs: Answers) -> None:
    stopped = ecs([{**DONE, "lastStatus": "RUNNING"}], KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(aws)
    assert stopped == [ARN]


def test_log_that_cannot_be_read_does_not_fail_the_task(
    aws: Aws, ecs: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs([{**DONE, "lastStatus": "RUNNING"}], [DONE])
    options = {"awslogs-group": "/g", "awslogs-stream-prefix": "p"}
    definition = {"name": "job", "logConfiguration": {"options": options}}
    monkeypatch.setattr(
        aws.ecs, "describe_task_definition", lambda **_: {"taskDefinition": {"containerDefinitions": [definition]}}
    )
    monkeypatch.setattr(oneoff, "LAST_LINES_SECONDS", 0.1)

    def refuse(**_: Any) -> Any:
        raise throttled("GetLogEvents")

    monkeypatch.setattr(aws.logs, "get_log_events", refuse)
    said: list[str] = []
    ended = oneoff.run(aws, ONE_OFF, output=said.append, state=lambda _: None)
    assert ended.succeeded
    assert said == ["cannot read the log: ThrottlingException"]


def test_companions_do_nothing_in_a_one_off_task(aws: Aws, ecs: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run the command of their service's entry, or `sleep`, since an image need not contain Python."""
    ecs([{**DONE, "containers": [*DONE["containers"], {"name": "worker"}, {"name": "mailer"}]}])
    containers = [{"name": name} for name in ("job", "worker", "mailer")]
    monkeypatch.setattr(
        aws.ecs, "describe_task_definition", lambda **_: {"taskDefinition": {"containerDefinitions": containers}}
    )
    asked: list[Any] = []

    def run_task(**arguments: Any) -> Any:
        asked.append(arguments["overrides"]["containerOverrides"])
        return {"tasks": [{"taskArn": ARN}], "failures": []}

    monkeypatch.setattr(aws.ecs, "run_task", run_task)
    one_off = replace(ONE_OFF, command=("node", "x.js"), idle_commands={"worker": ("node", "-e", "wait")})
    ended = oneoff.run(aws, one_off, output=lambda _: None, state=lambda _: None)
    assert {each["name"]: each["command"] for each in asked[0]} == {
        "job": ["node", "x.js"],
        "worker": ["node", "-e", "wait"],
        "mailer": ["sleep", "infinity"],
    }
    assert ended.succeeded, "the exit codes of companions are ignored"
