"""Types that MiniStack makes: replacement, names, tags, existing resources. Also the types that wait for signals."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import RunningRegion
from tests.waiting import until

pytestmark = pytest.mark.region

TRUST = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs.amazonaws.com"}, "Action": "sts:AssumeRole"}]}


def one(resource_type: str, **properties: Any) -> dict[str, Any]:
    resource = {"Type": resource_type, "DeletionPolicy": "Retain", "Properties": properties}
    return {"Resources": {"Thing": resource}, "Outputs": {"Ref": {"Value": {"Ref": "Thing"}}}}


def test_a_generated_name_is_kept_by_an_update_and_changed_by_a_replacement(region: RunningRegion) -> None:
    first = region.create("drawn", one("AWS::IAM::Role", AssumeRolePolicyDocument=TRUST)).outputs["Ref"]
    described = region.update("drawn", one("AWS::IAM::Role", AssumeRolePolicyDocument=TRUST, Description="changed"))
    assert described.outputs["Ref"] == first
    replaced = region.update("drawn", one("AWS::IAM::Role", AssumeRolePolicyDocument=TRUST, Path="/other/"))
    second = replaced.outputs["Ref"]
    assert second != first
    with pytest.raises(ClientError, match="NoSuchEntity"):
        region.client("iam").get_role(RoleName=first)
    again = region.update(
        "drawn", one("AWS::IAM::Role", AssumeRolePolicyDocument=TRUST, Path="/other/", Description="changed again")
    )
    assert again.outputs["Ref"] == second


def test_a_resource_with_a_name_of_its_own_is_not_replaced(region: RunningRegion) -> None:
    region.create("named", one("AWS::IAM::Role", RoleName="named", AssumeRolePolicyDocument=TRUST))
    stack = region.update("named", one("AWS::IAM::Role", RoleName="named", AssumeRolePolicyDocument=TRUST, Path="/a/"))
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert stack.reason("Thing", "UPDATE_FAILED") == (
        "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename named and "
        "update the stack again."
    )
    assert region.client("iam").get_role(RoleName="named")["Role"]["Path"] == "/"


def test_a_replacement_under_the_name_of_an_existing_resource_is_refused(region: RunningRegion) -> None:
    queue = region.client("sqs").create_queue(QueueName="by-hand")["QueueUrl"]
    region.create("queue", one("AWS::SQS::Queue", QueueName="first"))
    stack = region.update("queue", one("AWS::SQS::Queue", QueueName="by-hand"))
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "identifier 'by-hand' already exists" in stack.reason("Thing", "UPDATE_FAILED")
    assert region.client("sqs").get_queue_url(QueueName="by-hand")["QueueUrl"] == queue


def test_resources_have_the_tags_of_the_stack_and_of_cloudformation(region: RunningRegion) -> None:
    tags = [{"Key": "team", "Value": "core"}, {"Key": "own", "Value": "stack"}]
    template = one("AWS::SSM::Parameter", Name="/tagged", Type="String", Value="x", Tags={"own": "template"})
    template["Resources"]["Address"] = {
        "Type": "AWS::EC2::EIP",
        "Properties": {"Domain": "vpc", "Tags": [{"Key": "own", "Value": "template"}]},
    }
    stack = region.create("tagged", template, Tags=tags)
    parameter = region.client("ssm").list_tags_for_resource(ResourceType="Parameter", ResourceId="/tagged")["TagList"]
    addresses = region.client("ec2").describe_addresses()["Addresses"]
    (address,) = [each["Tags"] for each in addresses if {"Key": "own", "Value": "template"} in each.get("Tags", ())]
    for logical_id, found in (("Thing", parameter), ("Address", address)):
        assert {tag["Key"]: tag["Value"] for tag in found} == {
            "team": "core",
            "own": "template",
            "aws:cloudformation:stack-name": "tagged",
            "aws:cloudformation:stack-id": stack.id,
            "aws:cloudformation:logical-id": logical_id,
        }


def import_one(region: RunningRegion, name: str, resource_type: str, key: str, value: str, **properties: Any) -> Any:
    """The change set that imports a resource."""
    template = one(resource_type, **properties)
    del template["Outputs"]
    cloudformation = region.client("cloudformation")
    cloudformation.create_change_set(
        StackName=name,
        ChangeSetName="adopt",
        ChangeSetType="IMPORT",
        TemplateBody=json.dumps(template),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        ResourcesToImport=[
            {"ResourceType": resource_type, "LogicalResourceId": "Thing", "ResourceIdentifier": {key: value}}
        ],
    )
    return cloudformation.describe_change_set(StackName=name, ChangeSetName="adopt")


def _bucket(region: RunningRegion) -> str:
    region.client("s3").create_bucket(Bucket="adopted")
    return "adopted"


def _queue(region: RunningRegion) -> str:
    return str(region.client("sqs").create_queue(QueueName="adopted")["QueueUrl"])


def _topic(region: RunningRegion) -> str:
    return str(region.client("sns").create_topic(Name="adopted")["TopicArn"])


def _parameter(region: RunningRegion) -> str:
    region.client("ssm").put_parameter(Name="/adopted", Type="String", Value="x")
    return "/adopted"


def _group(region: RunningRegion) -> str:
    region.client("logs").create_log_group(logGroupName="/adopted")
    return "/adopted"


def _role(region: RunningRegion) -> str:
    region.client("iam").create_role(RoleName="adopted", AssumeRolePolicyDocument=json.dumps(TRUST))
    return "adopted"


@pytest.mark.parametrize(
    ("resource_type", "key", "make", "properties", "attribute"),
    [
        ("AWS::IAM::Role", "RoleName", _role, {"RoleName": "adopted", "AssumeRolePolicyDocument": TRUST}, "Arn"),
        ("AWS::Logs::LogGroup", "LogGroupName", _group, {"LogGroupName": "/adopted"}, "Arn"),
        ("AWS::S3::Bucket", "BucketName", _bucket, {"BucketName": "adopted"}, "Arn"),
        ("AWS::SNS::Topic", "TopicArn", _topic, {"TopicName": "adopted"}, "TopicName"),
        ("AWS::SQS::Queue", "QueueUrl", _queue, {"QueueName": "adopted"}, "QueueName"),
        ("AWS::SSM::Parameter", "Name", _parameter, {"Name": "/adopted", "Type": "String", "Value": "x"}, "Value"),
    ],
)
def test_an_existing_resource_is_imported_with_its_attributes(
    region: RunningRegion,
    resource_type: str,
    key: str,
    make: Callable[[RunningRegion], str],
    properties: dict[str, Any],
    attribute: str,
) -> None:
    name, identifier = f"adopt-{key}-{attribute}", make(region)
    assert import_one(region, name, resource_type, key, identifier, **properties)["ExecutionStatus"] == "AVAILABLE"
    region.client("cloudformation").execute_change_set(StackName=name, ChangeSetName="adopt")
    assert region.settled(name).status == "IMPORT_COMPLETE"
    template = one(resource_type, **properties)
    template["Outputs"]["Attribute"] = {"Value": {"Fn::GetAtt": ["Thing", attribute]}}
    outputs = region.update(name, template).outputs
    assert outputs["Ref"] == identifier
    assert outputs["Attribute"]


@pytest.mark.parametrize(
    ("resource_type", "key", "value", "properties", "reason"),
    [
        (
            "AWS::IAM::Role",
            "RoleName",
            "absent",
            {"RoleName": "absent", "AssumeRolePolicyDocument": TRUST},
            "The role with name absent cannot be found. (Service: Iam, Status Code: 404, Request ID: ",
        ),
        (
            "AWS::Logs::LogGroup",
            "LogGroupName",
            "/absent",
            {"LogGroupName": "/absent"},
            "Resource of type 'AWS::Logs::LogGroup' with identifier '{\"/properties/LogGroupName\":\"/absent\"}' was",
        ),
        ("AWS::S3::Bucket", "BucketName", "absent", {"BucketName": "absent"}, "Bucket not found"),
        (
            "AWS::SSM::Parameter",
            "Name",
            "/absent",
            {"Name": "/absent", "Type": "String", "Value": "x"},
            "Resource of type 'AWS::SSM::Parameter' with identifier '/absent' was not found.",
        ),
    ],
)
def test_the_import_of_a_missing_resource_fails_in_awss_words(
    region: RunningRegion, resource_type: str, key: str, value: str, properties: dict[str, Any], reason: str
) -> None:
    name = f"absent-{resource_type.replace('::', '-')}"
    change_set = import_one(region, name, resource_type, key, value, **properties)
    assert change_set["Status"] == "FAILED"
    assert change_set["StatusReason"].startswith(reason)


def test_a_wait_condition_ends_with_its_signals(region: RunningRegion) -> None:
    cloudformation = region.client("cloudformation")
    template = {
        "Resources": {
            "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
            "Waiting": {
                "Type": "AWS::CloudFormation::WaitCondition",
                "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "600", "Count": 2},
            },
            "Other": {
                "Type": "AWS::CloudFormation::WaitCondition",
                "CreationPolicy": {"ResourceSignal": {"Timeout": "PT10M"}},
            },
        }
    }
    cloudformation.create_stack(StackName="signals", TemplateBody=json.dumps(template))

    def signal(logical_id: str, unique_id: str) -> bool:
        try:
            cloudformation.signal_resource(
                StackName="signals", LogicalResourceId=logical_id, UniqueId=unique_id, Status="SUCCESS"
            )
        except ClientError as error:
            if "does not wait for signals" in str(error):
                return False
            raise
        return True

    for logical_id, unique_id in (("Waiting", "a"), ("Waiting", "b"), ("Other", "c")):
        until(partial(signal, logical_id, unique_id), "a resource that waits")
    stack = region.settled("signals")
    assert stack.status == "CREATE_COMPLETE"
    reasons = [event.get("ResourceStatusReason") for event in stack.events]
    assert "Received SUCCESS signal with UniqueId b" in reasons
    with pytest.raises(ClientError, match="can not be signaled"):
        signal("Waiting", "d")


def test_a_custom_resource_is_refused_by_name(region: RunningRegion) -> None:
    stack = region.create("custom", {"Resources": {"Thing": {"Type": "Custom::Mine", "Properties": {}}}})
    assert stack.status == "ROLLBACK_COMPLETE"
    assert "the local region does not have Custom::Mine" in stack.reason("Thing", "CREATE_FAILED")


def test_an_unknown_call_is_refused_by_name(region: RunningRegion) -> None:
    with pytest.raises(ClientError, match="the local region does not have ListStackSets"):
        region.client("cloudformation").list_stack_sets()
