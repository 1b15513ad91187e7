"""Drift detection: what differs is found, what does not is in sync, what cannot be compared is not checked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import RunningRegion

pytestmark = pytest.mark.region

VPC = {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.8.0.0/16"}}
HTTPS = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "10.8.0.0/16"}


def group(**properties: Any) -> dict[str, Any]:
    return {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {"GroupDescription": "of a test", "VpcId": {"Ref": "Vpc"}, **properties},
    }


def detect(region: RunningRegion, stack: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The stack's drift status, and the drift of each resource that was checked."""
    client = region.client("cloudformation")
    detection = client.detect_stack_drift(StackName=stack)["StackDriftDetectionId"]
    status = client.describe_stack_drift_detection_status(StackDriftDetectionId=detection)
    assert status["DetectionStatus"] == "DETECTION_COMPLETE"
    drifts = client.describe_stack_resource_drifts(StackName=stack)["StackResourceDrifts"]
    return status["StackDriftStatus"], {drift["LogicalResourceId"]: drift for drift in drifts}


def test_a_rule_added_to_a_security_group_by_hand_is_drift_until_it_is_taken_away(region: RunningRegion) -> None:
    resources = {
        "Vpc": VPC,
        "Group": group(SecurityGroupIngress=[{**HTTPS, "Description": "within"}], Tags=[{"Key": "a", "Value": "b"}]),
        "Other": group(),
        "Separate": {
            "Type": "AWS::EC2::SecurityGroupIngress",
            "Properties": {
                "GroupId": {"Ref": "Group"},
                "IpProtocol": "tcp",
                "FromPort": 5432,
                "ToPort": 5432,
                "SourceSecurityGroupId": {"Ref": "Other"},
            },
        },
    }
    group_id = region.create(
        "drift-group", {"Resources": resources, "Outputs": {"Group": {"Value": {"Ref": "Group"}}}}
    ).outputs["Group"]
    status, drifts = detect(region, "drift-group")
    assert status == "IN_SYNC"
    assert {name: drift["StackResourceDriftStatus"] for name, drift in drifts.items()} == dict.fromkeys(
        ("Group", "Other", "Separate"), "IN_SYNC"
    )

    permission = {
        "IpProtocol": "tcp",
        "FromPort": 22,
        "ToPort": 22,
        "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
    }
    ec2 = region.client("ec2")
    ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[permission])
    status, drifts = detect(region, "drift-group")
    assert status == "DRIFTED"
    assert drifts["Group"]["StackResourceDriftStatus"] == "MODIFIED"
    (difference,) = drifts["Group"]["PropertyDifferences"]
    assert (difference["PropertyPath"], difference["DifferenceType"]) == ("/SecurityGroupIngress/1", "ADD")
    assert json.loads(difference["ActualValue"])["FromPort"] == 22
    assert drifts["Separate"]["StackResourceDriftStatus"] == "IN_SYNC"

    ec2.revoke_security_group_ingress(GroupId=group_id, IpPermissions=[permission])
    assert detect(region, "drift-group")[0] == "IN_SYNC"


def test_a_rule_removed_by_hand_is_drift_of_the_group_or_of_the_rule(region: RunningRegion) -> None:
    resources = {
        "Vpc": VPC,
        "Group": group(SecurityGroupIngress=[HTTPS]),
        "Rule": {
            "Type": "AWS::EC2::SecurityGroupIngress",
            "Properties": {**HTTPS, "GroupId": {"Ref": "Group"}, "FromPort": 80, "ToPort": 80},
        },
    }
    group_id = region.create(
        "drift-removed", {"Resources": resources, "Outputs": {"Group": {"Value": {"Ref": "Group"}}}}
    ).outputs["Group"]
    ec2 = region.client("ec2")
    (seen,) = ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    assert len(seen["IpPermissions"]) == 2
    ec2.revoke_security_group_ingress(GroupId=group_id, IpPermissions=seen["IpPermissions"])
    status, drifts = detect(region, "drift-removed")
    assert status == "DRIFTED"
    assert drifts["Rule"]["StackResourceDriftStatus"] == "DELETED"
    (difference,) = drifts["Group"]["PropertyDifferences"]
    assert (difference["PropertyPath"], difference["DifferenceType"]) == ("/SecurityGroupIngress/0", "REMOVE")


def test_a_secret_is_found_by_its_arn_and_a_type_that_cannot_be_compared_is_not_checked(region: RunningRegion) -> None:
    resources = {
        "Secret": {
            "Type": "AWS::SecretsManager::Secret",
            "Properties": {"Name": "drift-secret", "Description": "one", "SecretString": "x"},
        },
        "Repository": {"Type": "AWS::ECR::Repository", "Properties": {"RepositoryName": "drift-repository"}},
    }
    region.create("drift-secret", {"Resources": resources})
    assert detect(region, "drift-secret")[0] == "IN_SYNC"
    region.client("secretsmanager").update_secret(SecretId="drift-secret", Description="two")
    status, drifts = detect(region, "drift-secret")
    assert status == "DRIFTED"
    assert set(drifts) == {"Secret"}
    (difference,) = drifts["Secret"]["PropertyDifferences"]
    assert (difference["ExpectedValue"], difference["ActualValue"]) == ("one", "two")
    checked = {
        each["LogicalResourceId"]: each["DriftInformation"]["StackResourceDriftStatus"]
        for each in region.client("cloudformation").list_stack_resources(StackName="drift-secret")[
            "StackResourceSummaries"
        ]
    }
    assert checked == {"Secret": "MODIFIED", "Repository": "NOT_CHECKED"}


def test_a_parameter_keeps_its_previous_value_where_an_update_says_so(region: RunningRegion) -> None:
    template = {
        "Parameters": {"Name": {"Type": "String", "Default": "default"}, "Days": {"Type": "Number"}},
        "Resources": {
            "Group": {
                "Type": "AWS::Logs::LogGroup",
                "Properties": {"LogGroupName": {"Ref": "Name"}, "RetentionInDays": {"Ref": "Days"}},
            }
        },
    }
    first = [
        {"ParameterKey": "Name", "ParameterValue": "/previous/given"},
        {"ParameterKey": "Days", "ParameterValue": "1"},
    ]
    region.create("previous", template, Parameters=first)
    second = [
        {"ParameterKey": "Name", "UsePreviousValue": True},
        {"ParameterKey": "Days", "ParameterValue": "3"},
    ]
    stack = region.update("previous", template, Parameters=second)
    assert stack.status == "UPDATE_COMPLETE"
    (seen,) = region.client("logs").describe_log_groups(logGroupNamePrefix="/previous")["logGroups"]
    assert (seen["logGroupName"], seen["retentionInDays"]) == ("/previous/given", 3)
    client = region.client("cloudformation")
    client.create_change_set(
        StackName="previous",
        ChangeSetName="previous",
        UsePreviousTemplate=True,
        Parameters=[
            {"ParameterKey": "Name", "UsePreviousValue": True},
            {"ParameterKey": "Days", "ParameterValue": "5"},
        ],
    )
    change_set = client.describe_change_set(StackName="previous", ChangeSetName="previous")
    (change,) = change_set["Changes"]
    assert (change["ResourceChange"]["Action"], change["ResourceChange"]["Replacement"]) == ("Modify", "False")
    client.execute_change_set(StackName="previous", ChangeSetName="previous")
    assert region.settled("previous").status == "UPDATE_COMPLETE"
    (seen,) = region.client("logs").describe_log_groups(logGroupNamePrefix="/previous")["logGroups"]
    assert (seen["logGroupName"], seen["retentionInDays"]) == ("/previous/given", 5)
