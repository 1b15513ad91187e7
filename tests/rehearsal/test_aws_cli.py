"""The AWS CLI with the calls of the runbooks, in a released environment."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from lib.config.services import SERVICES

from tests.rehearsal.environment import Rehearsal
from tests.waiting import until

from .conftest import Call

pytestmark = pytest.mark.region

CLUSTER = ("--cluster", "alva-staging-cluster")


def answer(aws: Call, *arguments: str) -> Any:
    return json.loads(aws(*arguments, "--output", "json").stdout)


def network_of(aws: Call, service: str) -> str:
    (found,) = answer(aws, "ecs", "describe-services", *CLUSTER, "--services", service)["services"]
    return json.dumps(found["networkConfiguration"])


def test_wait_for_stable_services_ends_when_they_are(aws: Call) -> None:
    aws("ecs", "wait", "services-stable", *CLUSTER, "--services", "alva-web", "alva-api", "alva-auth", "alva-admin")


def test_wait_for_a_service_that_does_not_exist_fails(aws: Call) -> None:
    waited = aws("ecs", "wait", "services-stable", *CLUSTER, "--services", "no-such-service", check=False)
    assert waited.returncode == 255
    assert 'For expression "failures[].reason" we matched expected path: "MISSING"' in waited.stderr


def test_one_off_task_is_run_waited_for_and_its_exit_code_read(aws: Call) -> None:
    overrides = {"containerOverrides": [{"name": "web", "command": ["python", "-c", "raise SystemExit(7)"]}]}
    started = answer(
        aws, "ecs", "run-task", *CLUSTER, "--task-definition", "alva-web", "--launch-type", "FARGATE",
        "--network-configuration", network_of(aws, "alva-web"), "--overrides", json.dumps(overrides),
    )  # fmt: skip
    assert started["failures"] == []
    task = started["tasks"][0]["taskArn"]
    aws("ecs", "wait", "tasks-stopped", *CLUSTER, "--tasks", task)
    (stopped,) = answer(aws, "ecs", "describe-tasks", *CLUSTER, "--tasks", task)["tasks"]
    assert stopped["containers"][0]["exitCode"] == 7
    assert stopped["stoppedReason"] == "Essential container in task exited"


def test_describe_target_health_returns_healthy(aws: Call) -> None:
    groups = answer(aws, "elbv2", "describe-target-groups")["TargetGroups"]
    assert {group["TargetGroupName"].split("-")[2] for group in groups} == {
        service.name for service in SERVICES if service.port
    }
    for group in groups:
        targets = answer(aws, "elbv2", "describe-target-health", "--target-group-arn", group["TargetGroupArn"])
        states = [target["TargetHealth"]["State"] for target in targets["TargetHealthDescriptions"]]
        # A target of an earlier release is shown while it drains.
        assert [state for state in states if state != "draining"] == ["healthy"]


def test_logs_show_a_services_requests(aws: Call, rehearsal: Rehearsal) -> None:
    """`logs tail` is in version 2 of the CLI, which no package index has. It calls FilterLogEvents, as here."""
    rehearsal.get("/admin/x?from=the-aws-cli")

    def lines() -> list[str]:
        events = answer(aws, "logs", "filter-log-events", "--log-group-name", "/alva/staging/admin")["events"]
        return [event["message"] for event in events if "/admin/x" in event["message"]]

    assert until(lines, "the log line of the request")


def test_secret_is_written_and_read_with_its_stages(aws: Call) -> None:
    name = ("--secret-id", "by-the-aws-cli")
    aws("secretsmanager", "create-secret", "--name", "by-the-aws-cli", "--secret-string", "first")
    try:
        aws("secretsmanager", "put-secret-value", *name, "--secret-string", "second")
        assert answer(aws, "secretsmanager", "get-secret-value", *name)["SecretString"] == "second"
        previous = answer(aws, "secretsmanager", "get-secret-value", *name, "--version-stage", "AWSPREVIOUS")
        assert previous["SecretString"] == "first"
    finally:
        aws("secretsmanager", "delete-secret", *name, "--force-delete-without-recovery")
    gone = aws("secretsmanager", "get-secret-value", *name, check=False)
    assert gone.returncode != 0
    assert "ResourceNotFoundException" in gone.stderr


def parameter(value: str, **more: str) -> str:
    properties = {"Name": "/by-the-aws-cli", "Type": "String", "Value": value, **more}
    return json.dumps({"Resources": {"Parameter": {"Type": "AWS::SSM::Parameter", "Properties": properties}}})


def test_cloudformation_deploy_creates_updates_leaves_alone_and_fails(aws: Call, tmp_path: Path) -> None:
    template = tmp_path / "template.json"
    template.write_text(parameter("one"))

    def deploy(*more: str, check: bool = True) -> Any:
        """Deploy at least one second later: the AWS CLI names change sets by the second."""
        begun = int(time.time())
        until(lambda: int(time.time()) > begun, "the next second")
        arguments = ("--stack-name", "by-the-aws-cli", "--template-file", str(template), *more)
        return aws("cloudformation", "deploy", *arguments, check=check)

    try:
        assert "Successfully created/updated stack - by-the-aws-cli" in deploy().stdout
        unchanged = deploy("--fail-on-empty-changeset", check=False)
        assert unchanged.returncode == 255
        assert "No changes to deploy. Stack by-the-aws-cli is up to date" in unchanged.stderr
        template.write_text(parameter("two"))
        assert "Successfully created/updated stack" in deploy().stdout
        assert answer(aws, "ssm", "get-parameter", "--name", "/by-the-aws-cli")["Parameter"]["Value"] == "two"
        template.write_text(parameter("three", Type="Nonsense"))
        failed = deploy(check=False)
        assert failed.returncode == 255
        assert "Failed to create/update the stack" in failed.stderr
        assert answer(aws, "ssm", "get-parameter", "--name", "/by-the-aws-cli")["Parameter"]["Value"] == "two"
    finally:
        aws("cloudformation", "delete-stack", "--stack-name", "by-the-aws-cli")
        aws("cloudformation", "wait", "stack-delete-complete", "--stack-name", "by-the-aws-cli")
