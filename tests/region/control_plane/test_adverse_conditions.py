"""`ALVA_ADVERSE_CONDITIONS`: reads lag, requests are throttled, new roles and freed names are not usable yet."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from alva.region import daemon
from alva.region.adverse_conditions import THROTTLE_EVERY
from tests.conftest import RunningRegion, running_region
from tests.waiting import until

TRUST = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}}


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegion]:
    """Lags of minutes, longer than any test on a busy machine."""
    with running_region(tmp_path_factory.mktemp("slow"), adverse_conditions=0.02) as region:
        yield region


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegion]:
    """Lags of a second and less."""
    with running_region(tmp_path_factory.mktemp("quick"), adverse_conditions=20) as region:
        yield region


def role(region: RunningRegion) -> tuple[str, str]:
    name = f"r-{uuid.uuid4().hex[:10]}"
    document = json.dumps({"Version": "2012-10-17", "Statement": [TRUST]})
    return name, region.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]


def code_of(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    code: str = caught.value.response["Error"]["Code"]
    return code


def answer(call: Any, **arguments: Any) -> dict[str, Any]:
    """The response of a call; None if it is refused."""
    try:
        found: dict[str, Any] = call(**arguments)
    except ClientError:
        return {}
    return found


@pytest.mark.parametrize(
    ("service", "operation", "code", "status"),
    [
        ("sts", "get_caller_identity", "Throttling", 400),
        ("logs", "describe_log_groups", "ThrottlingException", 400),
        ("ec2", "describe_vpcs", "RequestLimitExceeded", 503),
        ("s3", "list_buckets", "SlowDown", 503),
    ],
)
def test_requests_are_throttled_in_each_services_words(
    slow: RunningRegion, service: str, operation: str, code: str, status: int
) -> None:
    make: Any = boto3.client
    client = make(
        service,
        endpoint_url=slow.config.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )
    refused = []
    for _ in range(2 * THROTTLE_EVERY):
        try:
            getattr(client, operation)()
        except ClientError as error:
            refused.append((error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]))
    assert refused == [(code, status)] * 2


def test_new_parameter_is_not_found_yet(slow: RunningRegion) -> None:
    ssm = slow.client("ssm")
    ssm.put_parameter(Name="/new/one", Value="1", Type="String")
    assert code_of(ssm.get_parameter, Name="/new/one") == "ParameterNotFound"
    assert ssm.get_parameters(Names=["/new/one"])["InvalidParameters"] == ["/new/one"]
    assert ssm.get_parameters_by_path(Path="/new")["Parameters"] == []


def test_read_returns_the_former_value(slow: RunningRegion) -> None:
    ecs = slow.client("ecs")
    assert ecs.list_clusters()["clusterArns"] == []
    ecs.create_cluster(clusterName="late")
    assert ecs.list_clusters()["clusterArns"] == []
    assert ecs.describe_clusters(clusters=["late"])["clusters"][0]["clusterName"] == "late"


def test_name_of_a_deleted_parameter_is_still_taken(slow: RunningRegion) -> None:
    ssm = slow.client("ssm")
    ssm.put_parameter(Name="/freed", Value="1", Type="String")
    ssm.delete_parameter(Name="/freed")
    assert code_of(ssm.put_parameter, Name="/freed", Value="2", Type="String") == "ParameterAlreadyExists"


def test_new_role_cannot_be_assumed_yet(slow: RunningRegion) -> None:
    name, arn = role(slow)
    assert code_of(slow.client("iam").get_role, RoleName=name) == "NoSuchEntity"
    assert code_of(slow.client("sts").assume_role, RoleArn=arn, RoleSessionName="tester") == "AccessDenied"


def test_adverse_conditions_are_temporary(quick: RunningRegion) -> None:
    ssm, ecs, sts = (quick.client(name) for name in ("ssm", "ecs", "sts"))
    ssm.put_parameter(Name="/one", Value="1", Type="String")
    assert until(lambda: answer(ssm.get_parameter, Name="/one"))["Parameter"]["Value"] == "1"
    ssm.delete_parameter(Name="/one")
    assert until(lambda: answer(ssm.put_parameter, Name="/one", Value="2", Type="String"))["Version"] == 1
    assert ecs.list_clusters()["clusterArns"] == []
    ecs.create_cluster(clusterName="late")
    until(lambda: answer(ecs.list_clusters).get("clusterArns"), "the cluster to be seen")
    arn = role(quick)[1]
    until(lambda: answer(sts.assume_role, RoleArn=arn, RoleSessionName="tester"), "the role to be assumed")


def test_setting_is_shown(quick: RunningRegion) -> None:
    assert daemon.status(quick.config).adverse_conditions == 20
