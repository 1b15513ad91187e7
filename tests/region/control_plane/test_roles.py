"""A role's trust policy and permissions are enforced; the account's own key has all permissions."""

from __future__ import annotations

import json
import uuid
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from alva.region.requests import Request
from alva.region.roles import Roles
from tests.conftest import RunningRegion

ACCOUNT = "000000000000"
BY_THE_ACCOUNT = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
BASE = f"arn:aws:ecs:us-east-1:{ACCOUNT}"


def role(region: RunningRegion, *statements: dict[str, Any], trusts: dict[str, str] | None = None) -> str:
    """Create a role with these statements as its policy; returns its ARN."""
    iam, name = region.client("iam"), f"r-{uuid.uuid4().hex[:10]}"
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": trusts or BY_THE_ACCOUNT}
    arn: str = iam.create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )["Role"]["Arn"]
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **each} for each in statements]}
    if statements:
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(document))
    return arn


def client_as(region: RunningRegion, arn: str, service: str) -> Any:
    given = region.client("sts").assume_role(RoleArn=arn, RoleSessionName="tester")["Credentials"]
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=region.config.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
        config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
    )


def refusal(call: Any, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_missing_role_and_role_with_another_trust_have_the_same_error(region: RunningRegion) -> None:
    assume = region.client("sts").assume_role
    for arn in (f"arn:aws:iam::{ACCOUNT}:role/nobody", role(region, trusts={"Service": "ecs-tasks.amazonaws.com"})):
        code, message = refusal(assume, RoleArn=arn, RoleSessionName="tester")
        assert code == "AccessDenied"
        assert f"not authorized to perform: sts:AssumeRole on resource: {arn}" in message


def test_trust_in_a_user_needs_that_users_key(region: RunningRegion) -> None:
    iam, name = region.client("iam"), f"u-{uuid.uuid4().hex[:10]}"
    user = iam.create_user(UserName=name)["User"]["Arn"]
    key = iam.create_access_key(UserName=name)["AccessKey"]
    make: Any = boto3.client
    sts = make(
        "sts", endpoint_url=region.config.endpoint_url, region_name="us-east-1",
        aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"],
    )  # fmt: skip
    trusting = role(region, trusts={"AWS": user})
    assert sts.assume_role(RoleArn=trusting, RoleSessionName="tester")["Credentials"]
    assert refusal(region.client("sts").assume_role, RoleArn=trusting, RoleSessionName="tester")[0] == "AccessDenied"
    other = role(region, trusts={"AWS": f"arn:aws:iam::{ACCOUNT}:user/other"})
    message = refusal(sts.assume_role, RoleArn=other, RoleSessionName="tester")[1]
    assert f"User: {user} is not authorized to perform: sts:AssumeRole" in message


@pytest.mark.parametrize(
    ("method", "path", "query", "action"),
    [
        ("PUT", "/bucket/key", {}, "s3:PutObject"),
        ("GET", "/", {}, "s3:ListAllMyBuckets"),
        ("GET", "/bucket", {"policy": [""]}, "s3:GetBucketPolicy"),
        ("PUT", "/bucket/key", {"Action": ["ListAllMyBuckets"]}, "s3:PutObject"),
    ],
)
def test_s3s_action_follows_from_method_and_path(
    method: str, path: str, query: dict[str, list[str]], action: str
) -> None:
    headers = {"x-amz-target": "AmazonS3.ListAllMyBuckets"}
    request = Request("s3", "Get", "ASIA", method, path, headers, query, b"Action=ListAllMyBuckets")
    assert Roles(ACCOUNT, "us-east-1")._action(request) == action


def test_role_has_the_permissions_of_its_policy_on_the_named_resources_only(region: RunningRegion) -> None:
    named = f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/mine/*"
    allowed = {"Action": ["ssm:PutParameter", "ssm:GetParameter"], "Resource": named}
    ssm = client_as(region, role(region, allowed), "ssm")
    ssm.put_parameter(Name="/mine/a", Value="1", Type="String", Overwrite=True)
    assert ssm.get_parameter(Name="/mine/a")["Parameter"]["Value"] == "1"
    code, message = refusal(ssm.put_parameter, Name="/yours/a", Value="1", Type="String")
    assert code == "AccessDeniedException"
    assert "assumed-role" in message
    assert refusal(ssm.delete_parameter, Name="/mine/a")[0] == "AccessDeniedException"
    region.client("ssm").delete_parameter(Name="/mine/a")  # the account itself


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        ("cloudformation", "create_stack", {"StackName": "s", "TemplateBody": "{}"}),
        ("cloudwatch", "describe_alarms", {}),
        ("ecr", "describe_images", {"repositoryName": "some"}),
        ("ecs", "describe_services", {"cluster": "c", "services": ["s"]}),
        ("elbv2", "describe_load_balancers", {}),
        ("iam", "list_roles", {}),
        ("logs", "filter_log_events", {"logGroupName": "g"}),
        ("rds", "describe_db_instances", {}),
        ("s3", "put_object", {"Bucket": "b", "Key": "k", "Body": b"x"}),
        ("secretsmanager", "get_secret_value", {"SecretId": "s"}),
        ("sts", "assume_role", {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/other", "RoleSessionName": "tester"}),
    ],
)
def test_role_without_rights_is_refused_by_every_protocol(
    region: RunningRegion, service: str, operation: str, arguments: dict[str, Any]
) -> None:
    nobody = client_as(region, role(region, {"Action": "sns:Publish", "Resource": "*"}), service)
    code, message = refusal(getattr(nobody, operation), **arguments)
    assert code.startswith("AccessDenied"), (code, message)
    assert client_as(region, role(region, {"Action": "sns:Publish", "Resource": "*"}), "sts").get_caller_identity()


def test_every_resource_of_a_request_to_ecs_is_checked(region: RunningRegion) -> None:
    services = f"{BASE}:service/mine/*"
    ecs = client_as(region, role(region, {"Action": "ecs:DescribeServices", "Resource": services}), "ecs")
    assert refusal(ecs.describe_services, cluster="mine", services=["a"])[0] == "ClusterNotFoundException"
    assert refusal(ecs.describe_services, cluster="yours", services=["a"])[0] == "AccessDeniedException"
    other = f"{BASE}:service/yours/b"
    assert refusal(ecs.describe_services, cluster="mine", services=["a", other])[0] == "AccessDeniedException"


def test_running_a_task_needs_pass_role_for_its_roles(region: RunningRegion) -> None:
    execution = role(region, {"Action": "logs:*", "Resource": "*"}, trusts={"Service": "ecs-tasks.amazonaws.com"})
    family = f"f-{uuid.uuid4().hex[:8]}"
    region.client("ecs").register_task_definition(
        family=family,
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        executionRoleArn=execution,
        containerDefinitions=[{"name": "c", "image": "i"}],
    )
    run = {"Action": "ecs:RunTask", "Resource": f"{BASE}:task-definition/{family}*"}
    hand = {
        "Action": "iam:PassRole",
        "Resource": execution,
        "Condition": {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
    }
    asked = {"cluster": "nowhere", "taskDefinition": family, "launchType": "FARGATE"}
    code, message = refusal(client_as(region, role(region, run), "ecs").run_task, **asked)
    assert (code, f"iam:PassRole on resource: {execution}" in message) == ("AccessDeniedException", True)
    assert refusal(client_as(region, role(region, run, hand), "ecs").run_task, **asked)[0] == "ClusterNotFoundException"


def test_cloudformation_accepts_only_a_role_that_trusts_it(region: RunningRegion) -> None:
    template = json.dumps({"Resources": {"T": {"Type": "AWS::SNS::Topic"}}})
    create = region.client("cloudformation").create_stack
    name = f"s-{uuid.uuid4().hex[:8]}"
    # A trust policy that only mentions CloudFormation, in a pattern of callers.
    mentions = role(region, trusts={"AWS": "cloudformation.amazonaws.com"})
    for arn in (f"arn:aws:iam::{ACCOUNT}:role/nobody", role(region, {"Action": "*", "Resource": "*"}), mentions):
        code, message = refusal(create, StackName=name, TemplateBody=template, RoleARN=arn)
        assert (code, message) == ("ValidationError", f"Role {arn} is invalid or cannot be assumed")
    execution = role(region, {"Action": "*", "Resource": "*"}, trusts={"Service": "cloudformation.amazonaws.com"})
    create(StackName=name, TemplateBody=template, RoleARN=execution)
    assert region.settled(name).status == "CREATE_COMPLETE"
    region.delete(name)


def test_unknown_credentials_are_refused(region: RunningRegion) -> None:
    make: Any = boto3.client
    stranger = make(
        "ssm",
        endpoint_url=region.config.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="ASIAXXXXXXXXXXXXXXXX",
        aws_secret_access_key="x",
        config=Config(retries={"max_attempts": 0}),
    )
    assert refusal(stranger.get_parameter, Name="/a")[0] == "UnrecognizedClientException"


def test_simulation_covers_every_resource_and_the_permissions_boundary(region: RunningRegion) -> None:
    mine, yours = (f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{name}" for name in ("mine", "yours"))
    iam = region.client("iam")
    arn = role(region, {"Action": ["ecr:BatchGetImage", "ecr:PutImage"], "Resource": mine})

    def decisions() -> dict[tuple[str, str], str]:
        answer = iam.simulate_principal_policy(
            PolicySourceArn=arn, ActionNames=["ecr:BatchGetImage", "ecr:PutImage"], ResourceArns=[mine, yours]
        )
        return {
            (each["EvalActionName"], each["EvalResourceName"].rpartition("/")[2]): each["EvalDecision"]
            for each in answer["EvaluationResults"]
        }

    assert decisions() == {
        ("ecr:BatchGetImage", "mine"): "allowed",
        ("ecr:PutImage", "mine"): "allowed",
        ("ecr:BatchGetImage", "yours"): "implicitDeny",
        ("ecr:PutImage", "yours"): "implicitDeny",
    }
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ecr:Batch*", "Resource": "*"}]}
    name = f"b-{uuid.uuid4().hex[:8]}"
    boundary = iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(document))["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName=arn.rpartition("/")[2], PermissionsBoundary=boundary)
    assert decisions()["ecr:BatchGetImage", "mine"] == "allowed"
    assert decisions()["ecr:PutImage", "mine"] == "implicitDeny"
