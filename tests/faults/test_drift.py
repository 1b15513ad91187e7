"""Changes outside CloudFormation are reported before a release, and reverted by it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.waiting import until

from . import breaking
from .catalogue import API_ALONE, AUTH_ALONE, REFUSED
from .conftest import CLUSTER, Environment

OUTSIDE = "changed outside CloudFormation"


@pytest.mark.nightly
def test_service_with_another_task_definition_is_reported_and_restored(environment: Environment) -> None:
    """Same image, another LOG_LEVEL: requests, digests and templates do not show the change."""
    before = environment.standing()
    revision = point_web_at_another_environment(environment)
    said = f"web: runs {revision}, its stack says {expected_revision(environment)}; {OUTSIDE}"
    assert f"drift: {said}" in environment.alva("status").stdout
    assert f"drift: {said}" in environment.alva("diff").stdout
    preflight = environment.alva("preflight")
    assert (preflight.returncode, said in preflight.stdout) == (0, True), preflight.stdout

    with environment.users() as problems:
        refused = environment.alva("deploy")
        assert refused.returncode == REFUSED, refused.stderr
        assert "--allow drift" in refused.stderr
        # A release of auth alone must not fail because of the drift of web.
        with breaking.new_version("auth")(environment):
            released = environment.alva(*AUTH_ALONE, "--allow", "drift")
        assert released.returncode == 0, released.stderr
        assert environment.standing().containers["alva-web"] == before.containers["alva-web"]
        back = environment.alva("up")
    assert back.returncode == 0, back.stderr
    assert problems == []
    assert "drift" not in environment.alva("status").stdout


@pytest.mark.nightly
@pytest.mark.parametrize("count", [0, 3])
def test_desired_count_changed_by_hand_is_reported_and_restored(environment: Environment, count: int) -> None:
    ecs = environment.client("ecs")
    ecs.update_service(cluster=CLUSTER, service="alva-web", desiredCount=count)
    until(lambda: service_of(environment, "web")["runningCount"] == count, f"{count} tasks")
    until(lambda: environment.standing().unsettled == (), "healthy targets")
    said = f"web: its desired count is {count}, its stack says 1; {OUTSIDE}"
    assert said in environment.alva("status").stdout
    verified = environment.alva("verify")
    assert (verified.returncode, said in verified.stderr) == ((7, True) if count == 0 else (0, False))
    reverted = environment.alva("deploy", "--allow", "drift")
    assert reverted.returncode == 0, reverted.stderr
    assert service_of(environment, "web")["desiredCount"] == 1
    until(lambda: environment.standing().unsettled == (), "a settled environment")


@pytest.mark.nightly
def test_deleted_log_group_is_created_again_by_the_next_release(environment: Environment) -> None:
    logs, name = environment.client("logs"), "/alva/staging/api"
    retention = log_groups(environment)[name]
    with environment.unharmed():
        logs.delete_log_group(logGroupName=name)
        assert f"api: its log group {name} does not exist" in environment.alva("preflight").stdout
        with breaking.new_version("api")(environment):
            released = environment.alva(*API_ALONE)
        assert released.returncode == 0, released.stderr
        assert log_groups(environment)[name] == retention
        assert environment.alva("up").returncode == 0


@pytest.mark.nightly
def test_deleted_listener_rule_is_reported_with_the_command_that_restores_it(environment: Environment) -> None:
    with breaking.rule_removed(environment):
        shown = environment.alva("diff")
        assert "the listener rule no longer exists" in shown.stdout
        assert "--deployment-mode REVERT_DRIFT" in shown.stdout


def test_security_group_changed_by_hand_is_reported(environment: Environment) -> None:
    """CloudFormation's drift detection finds it: the template lists the load balancer's egress rules."""
    ec2 = environment.client("ec2")
    (group,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["alva-staging-alb"]}])[
        "SecurityGroups"
    ]
    more: Any = {
        "GroupId": group["GroupId"],
        "IpPermissions": [
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "203.0.113.0/24"}]}
        ],
    }
    ec2.authorize_security_group_egress(**more)
    try:
        found = json.loads(environment.alva("diff", "--json").stdout)["drift"]
    finally:
        ec2.revoke_security_group_egress(**more)
    assert [each["subject"] for each in found] == ["alva-staging-network/AlbSecurityGroup"]


def point_web_at_another_environment(environment: Environment) -> str:
    """Do the same as `aws-actions/amazon-ecs-deploy-task-definition`; return the new revision, such as `alva-web:7`."""
    ecs = environment.client("ecs")
    definition = ecs.describe_task_definition(taskDefinition=service_of(environment, "web")["taskDefinition"])[
        "taskDefinition"
    ]
    names = (
        "family", "taskRoleArn", "executionRoleArn", "networkMode", "containerDefinitions", "volumes",
        "requiresCompatibilities", "cpu", "memory", "runtimePlatform",
    )  # fmt: skip
    copied = {name: definition[name] for name in names if name in definition}
    for variable in copied["containerDefinitions"][0]["environment"]:
        if variable["name"] == "LOG_LEVEL":
            variable["value"] = "debug"
    made = ecs.register_task_definition(**copied)["taskDefinition"]["taskDefinitionArn"]
    ecs.update_service(cluster=CLUSTER, service="alva-web", taskDefinition=made)
    until(
        lambda: (
            [d["taskDefinition"] for d in service_of(environment, "web")["deployments"]] == [made]
            and service_of(environment, "web")["deployments"][0]["rolloutState"] == "COMPLETED"
        ),
        "the other task definition",
        seconds=120,
    )
    return str(made.rpartition("/")[2])


def expected_revision(environment: Environment) -> str:
    """The revision in the services stack, such as `alva-web:6`."""
    listed = environment.client("cloudformation").describe_stack_resources(StackName="alva-staging-services")
    found = [
        each["PhysicalResourceId"].rpartition("/")[2]
        for each in listed["StackResources"]
        if each["ResourceType"] == "AWS::ECS::TaskDefinition"
    ]
    return str(next(each for each in found if each.startswith("alva-web:")))


def service_of(environment: Environment, name: str) -> Any:
    """The ECS service."""
    return environment.client("ecs").describe_services(cluster=CLUSTER, services=[f"alva-{name}"])["services"][0]


def log_groups(environment: Environment) -> dict[str, int]:
    """Log group -> retention in days."""
    found = environment.client("logs").describe_log_groups(logGroupNamePrefix="/alva/staging/")["logGroups"]
    return {group["logGroupName"]: group["retentionInDays"] for group in found}
