"""Drift detection: differences are found, unchanged resources are in sync, other types are not checked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

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


def test_rule_added_by_hand_is_drift_until_it_is_removed(region: RunningRegion) -> None:
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


TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
TAGS = [{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "1"}]
READ_TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "Bucket": ("S3::Bucket", {"BucketName": "drift-read", "VersioningConfiguration": {"Status": "Enabled"}}),
    "LogGroup": ("Logs::LogGroup", {"LogGroupName": "/drift/read", "RetentionInDays": 7, "Tags": TAGS}),
    "Parameter": ("SSM::Parameter", {"Name": "/drift/read", "Type": "String", "Value": "x", "Tags": {"a": "1"}}),
    "Queue": ("SQS::Queue", {"QueueName": "drift-read", "VisibilityTimeout": "40", "Tags": TAGS}),
    "Role": ("IAM::Role", {"RoleName": "drift-read", "AssumeRolePolicyDocument": TRUST, "Tags": TAGS}),
    "Secret": ("SecretsManager::Secret", {"Name": "drift-read", "Description": "x", "SecretString": "x"}),
    "Topic": ("SNS::Topic", {"TopicName": "drift-read", "DisplayName": "x", "Tags": TAGS}),
}


def test_every_type_that_is_compared_is_found_in_sync_modified_and_deleted(region: RunningRegion) -> None:
    resources = {name: {"Type": f"AWS::{kind}", "Properties": each} for name, (kind, each) in READ_TYPES.items()}
    outputs = {name: {"Value": {"Ref": name}} for name in ("Queue", "Topic")}
    stack = region.create(
        "drift-read",
        {"Resources": resources, "Outputs": outputs},
        Tags=[{"Key": "of-the-stack", "Value": "x"}],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    status, drifts = detect(region, "drift-read")
    assert status == "IN_SYNC", drifts
    assert set(drifts) == set(READ_TYPES)
    assert json.loads(drifts["Queue"]["ActualProperties"]) == json.loads(drifts["Queue"]["ExpectedProperties"])

    queue, topic = stack.outputs["Queue"], stack.outputs["Topic"]
    other_trust = json.dumps(TRUST).replace("ecs.", "ec2.")
    region.client("s3").put_bucket_versioning(Bucket="drift-read", VersioningConfiguration={"Status": "Suspended"})
    region.client("logs").put_retention_policy(logGroupName="/drift/read", retentionInDays=1)
    region.client("ssm").put_parameter(Name="/drift/read", Type="String", Value="y", Overwrite=True)
    region.client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "50"})
    region.client("iam").update_assume_role_policy(RoleName="drift-read", PolicyDocument=other_trust)
    region.client("secretsmanager").update_secret(SecretId="drift-read", Description="y")
    region.client("sns").untag_resource(ResourceArn=topic, TagKeys=["a"])
    status, drifts = detect(region, "drift-read")
    assert status == "DRIFTED"
    assert {
        name: [each["PropertyPath"] for each in found["PropertyDifferences"]] for name, found in drifts.items()
    } == {
        "Bucket": ["/VersioningConfiguration/Status"],
        "LogGroup": ["/RetentionInDays"],
        "Parameter": ["/Value"],
        "Queue": ["/VisibilityTimeout"],
        "Role": ["/AssumeRolePolicyDocument/Statement/0/Principal/Service"],
        "Secret": ["/Description"],
        "Topic": ["/Tags/2"],
    }

    region.client("s3").delete_bucket(Bucket="drift-read")
    region.client("logs").delete_log_group(logGroupName="/drift/read")
    region.client("ssm").delete_parameter(Name="/drift/read")
    region.client("sqs").delete_queue(QueueUrl=queue)
    region.client("iam").delete_role(RoleName="drift-read")
    region.client("secretsmanager").delete_secret(SecretId="drift-read")
    region.client("sns").delete_topic(TopicArn=topic)
    _, drifts = detect(region, "drift-read")
    assert {found["StackResourceDriftStatus"] for found in drifts.values()} == {"DELETED"}


def test_drift_calls_refuse_what_aws_refuses(region: RunningRegion) -> None:
    resources = {
        "Group": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/drift/one"}},
        "Repository": {"Type": "AWS::ECR::Repository", "Properties": {"RepositoryName": "drift-one"}},
    }
    region.create("drift-one", {"Resources": resources})
    client = region.client("cloudformation")
    named = {"StackName": "drift-one"}
    found = client.detect_stack_resource_drift(**named, LogicalResourceId="Group")["StackResourceDrift"]
    assert found["StackResourceDriftStatus"] == "IN_SYNC"
    assert [each["Timestamp"] for each in client.describe_stack_resource_drifts(**named)["StackResourceDrifts"]] == [
        found["Timestamp"]
    ]
    assert client.describe_stack_resource_drifts(**named, StackResourceDriftStatusFilters=["DELETED"])[
        "StackResourceDrifts"
    ] == []  # fmt: skip
    for call, request, message in (
        (client.detect_stack_drift, {"StackName": "none"}, "Stack [none] does not exist"),
        (client.detect_stack_drift, {**named, "LogicalResourceIds": ["None"]}, "Resource(s) [None] do not exist"),
        (client.detect_stack_resource_drift, {**named, "LogicalResourceId": "None"}, "Resource [None] does not exist"),
        (
            client.detect_stack_resource_drift,
            {**named, "LogicalResourceId": "Repository"},
            "not supported for resource",
        ),
        (client.describe_stack_resource_drifts, {"StackName": "none"}, "Stack [none] does not exist"),
        (client.describe_stack_drift_detection_status, {"StackDriftDetectionId": "x" * 36}, "does not exist"),
    ):
        with pytest.raises(ClientError) as refused:
            call(**request)
        assert refused.value.response["Error"]["Code"] == "ValidationError"
        assert message in refused.value.response["Error"]["Message"]


def test_parameter_keeps_its_value_with_use_previous_value(region: RunningRegion) -> None:
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


BALANCED = {
    "Vpc": VPC,
    **{
        f"Subnet{zone}": {
            "Type": "AWS::EC2::Subnet",
            "Properties": {
                "VpcId": {"Ref": "Vpc"},
                "CidrBlock": f"10.8.{number}.0/24",
                "AvailabilityZone": f"us-east-1{zone.lower()}",
            },
        }
        for number, zone in enumerate("AB")
    },
    "Balancer": {
        "Type": "AWS::ElasticLoadBalancingV2::LoadBalancer",
        "Properties": {"Scheme": "internal", "Subnets": [{"Ref": "SubnetA"}, {"Ref": "SubnetB"}]},
    },
    "Targets": {
        "Type": "AWS::ElasticLoadBalancingV2::TargetGroup",
        "Properties": {
            "Port": 3000,
            "Protocol": "HTTP",
            "TargetType": "ip",
            "VpcId": {"Ref": "Vpc"},
            "HealthCheckPath": "/health",
            "HealthCheckIntervalSeconds": 10,
            "Matcher": {"HttpCode": "200-299"},
        },
    },
    "Listener": {
        "Type": "AWS::ElasticLoadBalancingV2::Listener",
        "Properties": {
            "LoadBalancerArn": {"Ref": "Balancer"},
            "Port": 80,
            "Protocol": "HTTP",
            "DefaultActions": [{"Type": "forward", "TargetGroupArn": {"Ref": "Targets"}}],
        },
    },
    "Rule": {
        "Type": "AWS::ElasticLoadBalancingV2::ListenerRule",
        "Properties": {
            "ListenerArn": {"Ref": "Listener"},
            "Priority": 10,
            "Conditions": [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/admin", "/admin/*"]}}],
            "Actions": [{"Type": "forward", "TargetGroupArn": {"Ref": "Targets"}}],
        },
    },
}


def revert(region: RunningRegion, stack: str) -> dict[str, dict[str, Any]]:
    """Create and execute a drift-aware change set with the stack's own template; returns its changes by logical id."""
    client = region.client("cloudformation")
    named = {"StackName": stack, "ChangeSetName": "revert-drift"}
    client.create_change_set(
        **named, UsePreviousTemplate=True, DeploymentMode="REVERT_DRIFT", Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    described = client.describe_change_set(**named)
    assert (described["DeploymentMode"], described["StackDriftStatus"]) == ("REVERT_DRIFT", "DRIFTED")
    client.execute_change_set(**named)
    client.get_waiter("stack_update_complete").wait(StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return {change["ResourceChange"]["LogicalResourceId"]: change["ResourceChange"] for change in described["Changes"]}


def test_drift_aware_change_set_reverts_drift_of_a_load_balancer(
    region: RunningRegion,
) -> None:
    stack, elb = "drift-balancer", region.client("elbv2")
    outputs = {name: {"Value": {"Ref": name}} for name in ("Listener", "Rule", "Targets")}
    made = region.create(stack, {"Resources": BALANCED, "Outputs": outputs}).outputs
    assert detect(region, stack)[0] == "IN_SYNC"

    paths = {"Values": ["/elsewhere"]}
    elb.modify_rule(RuleArn=made["Rule"], Conditions=[{"Field": "path-pattern", "PathPatternConfig": paths}])
    elb.modify_target_group(TargetGroupArn=made["Targets"], HealthCheckPath="/nothing-here")
    status, drifts = detect(region, stack)
    assert status == "DRIFTED"
    assert {name for name, each in drifts.items() if each["StackResourceDriftStatus"] == "MODIFIED"} == {
        "Rule", "Targets",
    }  # fmt: skip
    changes = revert(region, stack)
    assert {(name, each["Action"], each["ResourceDriftStatus"]) for name, each in changes.items()} == {
        ("Rule", "Modify", "MODIFIED"),
        ("Targets", "Modify", "MODIFIED"),
    }
    (detail,) = changes["Targets"]["Details"]
    assert json.loads(detail["Target"]["Drift"]["ActualValue"]) == "/nothing-here"
    assert detect(region, stack)[0] == "IN_SYNC"
    (rule,) = elb.describe_rules(RuleArns=[made["Rule"]])["Rules"]
    assert rule["Conditions"][0]["PathPatternConfig"]["Values"] == ["/admin", "/admin/*"]


def test_only_a_drift_aware_change_set_creates_a_resource_again_that_was_deleted_by_hand(
    region: RunningRegion,
) -> None:
    stack, elb = "drift-deleted", region.client("elbv2")
    outputs = {name: {"Value": {"Ref": name}} for name in ("Listener", "Rule")}
    made = region.create(stack, {"Resources": BALANCED, "Outputs": outputs}).outputs
    elb.delete_rule(RuleArn=made["Rule"])
    client = region.client("cloudformation")
    client.create_change_set(StackName=stack, ChangeSetName="plain", UsePreviousTemplate=True)
    plain = client.describe_change_set(StackName=stack, ChangeSetName="plain")
    assert (plain["Status"], "DeploymentMode" in plain) == ("FAILED", False)

    changes = revert(region, stack)
    assert [(name, each["Action"], each["ResourceDriftStatus"]) for name, each in changes.items()] == [
        ("Rule", "Add", "DELETED")
    ]
    assert detect(region, stack)[0] == "IN_SYNC"
    rules = elb.describe_rules(ListenerArn=made["Listener"])["Rules"]
    assert [rule["Priority"] for rule in rules] == ["10", "default"]
    assert made["Rule"] not in {rule["RuleArn"] for rule in rules}
