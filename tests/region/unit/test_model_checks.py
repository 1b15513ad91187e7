"""A template's properties are checked like the input of the action that creates the resource."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ministack.services import cloudwatch_logs, iam, sns, ssm

from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.provisioning import Provisioner
from alva.region.cloudformation.registry import Registry

TRUST = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs.amazonaws.com"}, "Action": "sts:AssumeRole"}]}


def create(resource_type: str, properties: dict[str, Any]) -> str:
    made = asyncio.run(Provisioner(Registry()).create(resource_type, "Thing", properties, "stack", lambda _: None))
    return made.physical_id


@pytest.mark.parametrize(
    ("resource_type", "properties", "reason"),
    [
        ("AWS::EC2::SecurityGroup", {"GroupDescription": "the app's port"}, "Invalid security group description."),
        ("AWS::IAM::Role", {"RoleName": "x" * 65, "AssumeRolePolicyDocument": TRUST}, "less than or equal to 64"),
        ("AWS::IAM::Role", {"RoleName": "two words", "AssumeRolePolicyDocument": TRUST}, "regular expression pattern"),
        ("AWS::IAM::Role", {"AssumeRolePolicyDocument": {"Version": "2012-10-17"}}, "Syntax errors in policy."),
        ("AWS::IAM::Role", {"MaxSessionDuration": "60", "AssumeRolePolicyDocument": TRUST}, "equal to 3600"),
        ("AWS::IAM::ManagedPolicy", {"ManagedPolicyName": "a b", "PolicyDocument": TRUST}, "at 'policyName' failed"),
        ("AWS::Logs::LogGroup", {"LogGroupName": "two words"}, "at 'logGroupName' failed"),
        ("AWS::SNS::Topic", {"TopicName": "two words"}, "Invalid parameter: Topic Name"),
        ("AWS::SSM::Parameter", {"Name": "a/b", "Type": "String", "Value": "x"}, "fully qualified name"),
        ("AWS::SSM::Parameter", {"Name": "x", "Type": "String", "Value": "x" * 4097}, "4096 characters"),
        ("AWS::SSM::Parameter", {"Name": "x", "Type": "Number", "Value": "1"}, "enum value set"),
    ],
)
def test_properties_that_the_api_refuses_fail_in_a_template(
    resource_type: str, properties: dict[str, Any], reason: str
) -> None:
    with pytest.raises(HandlerFailed, match="HandlerErrorCode: InvalidRequest") as failed:
        create(resource_type, properties)
    assert reason in str(failed.value)


def test_good_resources_and_changes_pass() -> None:
    for module in (iam, cloudwatch_logs, sns, ssm):
        module.reset()
    assert create("AWS::IAM::Role", {"AssumeRolePolicyDocument": TRUST, "Tags": [{"Key": "a", "Value": "b"}]})
    assert create("AWS::Logs::LogGroup", {"LogGroupName": "/web", "RetentionInDays": "7"}) == "/web"
    assert create("AWS::SNS::Topic", {"DisplayName": "x", "Tags": [{"Key": "a", "Value": "b"}]})
    properties = {"Name": "/x", "Type": "String", "Value": "x"}
    name = create("AWS::SSM::Parameter", properties)
    changed = Provisioner(Registry()).update(
        "AWS::SSM::Parameter", "Thing", name, properties, {**properties, "Value": ""}, "stack", name_seed="",
        announced=lambda _: None,
    )  # fmt: skip
    with pytest.raises(HandlerFailed, match="length greater than or equal to 1"):
        asyncio.run(changed)
