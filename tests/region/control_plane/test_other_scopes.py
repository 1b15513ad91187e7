"""Requests to another region or account do not change the local region's own resources."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from alva.region import daemon
from tests.conftest import RunningRegion, running_region
from tests.region.elb.test_elb_region import TEMPLATE, Hello
from tests.region_network import address_beside_the_load_balancer, network_of
from tests.waiting import until

pytestmark = pytest.mark.region

ELSEWHERE = {"region": ("eu-west-1", "test"), "account": ("us-east-1", "222222222222")}
"""The region and the access key of requests; an access key of twelve digits selects that account."""
NAME = "both"
METRIC = {"Namespace": "Both", "MetricName": "failures"}
QUICK = Config(retries={"max_attempts": 0}, read_timeout=60)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegion]:
    with running_region(tmp_path_factory.mktemp("scopes")) as running:
        yield running


def client(region: RunningRegion, where: str, service: str) -> Any:
    name, key = ELSEWHERE.get(where, (region.config.region, "test"))
    make: Any = boto3.client
    return make(
        service, endpoint_url=region.config.endpoint_url, region_name=name, aws_access_key_id=key,
        aws_secret_access_key="test", config=QUICK,
    )  # fmt: skip


def make_records(region: RunningRegion, where: str) -> None:
    """Create a record in each of several services, with a common name and a value that names the scope."""
    client(region, where, "logs").create_log_group(logGroupName=NAME)
    client(region, where, "ssm").put_parameter(Name=NAME, Value=where, Type="String")
    client(region, where, "secretsmanager").create_secret(Name=NAME, SecretString=where)
    client(region, where, "sns").create_topic(Name=NAME)
    client(region, where, "ecr").create_repository(repositoryName=NAME)
    client(region, where, "events").put_rule(Name=NAME, ScheduleExpression="rate(1 day)", Description=where)
    client(region, where, "ec2").create_vpc(CidrBlock="10.9.0.0/16")
    cloudwatch = client(region, where, "cloudwatch")
    cloudwatch.put_metric_data(
        Namespace=METRIC["Namespace"],
        MetricData=[{"MetricName": METRIC["MetricName"], "Value": 1, "Unit": where_unit(where)}],
    )
    cloudwatch.put_metric_alarm(
        AlarmName=NAME, AlarmDescription=where, **METRIC, Statistic="Sum", Period=60, EvaluationPeriods=1, Threshold=5,
        ComparisonOperator="GreaterThanThreshold", TreatMissingData="notBreaching",
    )  # fmt: skip


def where_unit(where: str) -> str:
    return {"home": "Count", "region": "Seconds", "account": "Bytes"}[where]


def records(region: RunningRegion, where: str) -> dict[str, Any]:
    """The records as seen by a client of this scope."""
    value = client(region, where, "ssm").get_parameter(Name=NAME)["Parameter"]
    alarms = client(region, where, "cloudwatch").describe_alarms(AlarmNames=[NAME])["MetricAlarms"]
    return {
        "secret": client(region, where, "secretsmanager").get_secret_value(SecretId=NAME)["SecretString"],
        "parameter": value["Value"],
        "alarm": [each["AlarmDescription"] for each in alarms],
        "rule": client(region, where, "events").describe_rule(Name=NAME)["Description"],
        "groups": len(client(region, where, "logs").describe_log_groups(logGroupNamePrefix=NAME)["logGroups"]),
        "topics": len(client(region, where, "sns").list_topics()["Topics"]),
        "repositories": len(client(region, where, "ecr").describe_repositories()["repositories"]),
        "arn": value["ARN"].split(":")[3:5],
    }


def metrics_of(region: RunningRegion, where: str) -> list[tuple[str, str]]:
    found = client(region, where, "cloudwatch").list_metrics()["Metrics"]
    return sorted((each["Namespace"], each["MetricName"]) for each in found)


def alarm_state(region: RunningRegion, where: str) -> str:
    alarms = client(region, where, "cloudwatch").describe_alarms(AlarmNames=[NAME])["MetricAlarms"]
    return str(alarms[0]["StateValue"])


@pytest.fixture(scope="module")
def target(region: RunningRegion) -> Iterator[dict[str, Any]]:
    with address_beside_the_load_balancer(region.config, "10.0.250.5") as address, network_of(region.config, address):
        server = ThreadingHTTPServer((address, 8000), Hello)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield {"Id": "10.0.250.5", "Port": 8000}
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def served(region: RunningRegion, target: dict[str, Any]) -> dict[str, str]:
    """The outputs of a stack with a load balancer and a healthy target."""
    stack = region.create("serves", TEMPLATE)
    assert stack.status == "CREATE_COMPLETE", stack.events
    elb, group = region.client("elbv2"), stack.outputs["TargetGroup"]
    elb.register_targets(TargetGroupArn=group, Targets=[target])
    elb.get_waiter("target_in_service").wait(
        TargetGroupArn=group, Targets=[target], WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    return stack.outputs


def test_requests_to_other_accounts_and_regions_do_not_change_the_regions_own_resources(
    region: RunningRegion, served: dict[str, str]
) -> None:
    url, group = served["Url"], served["TargetGroup"]
    make_records(region, "home")
    expected = records(region, "home")
    for where in ELSEWHERE:
        make_records(region, where)
        assert client(region, where, "ecs").list_clusters()["clusterArns"] == []
        with pytest.raises(ClientError, match="UnsupportedFeatureException"):
            client(region, where, "ecs").create_cluster(clusterName=NAME)
        assert client(region, where, "elbv2").describe_target_groups()["TargetGroups"] == []
        assert client(region, where, "cloudformation").describe_stacks()["Stacks"] == []

    # Wait until each background reader has done its work.
    answers(f"{url}/api/x")
    cloudwatch = client(region, "home", "cloudwatch")
    cloudwatch.put_metric_data(
        Namespace=METRIC["Namespace"], MetricData=[{"MetricName": METRIC["MetricName"], "Value": 9}]
    )
    until(lambda: alarm_state(region, "home") == "ALARM")
    for where in ELSEWHERE:
        assert alarm_state(region, where) != "ALARM", f"the metric at home reached the alarm in another {where}"
        assert metrics_of(region, where) == [("Both", "failures")]
    until(lambda: ("AWS/ApplicationELB", "RequestCount") in metrics_of(region, "home"))
    ec2, visitors = region.client("ec2"), served["Visitors"]
    ports = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    ec2.revoke_security_group_ingress(GroupId=visitors, IpPermissions=ports)
    until(lambda: not answers(f"{url}/api/x"))
    ec2.authorize_security_group_ingress(GroupId=visitors, IpPermissions=ports)
    until(lambda: answers(f"{url}/api/x"))

    health = region.client("elbv2").describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    assert [each["TargetHealth"]["State"] for each in health] == ["healthy"]
    assert httpx.get(f"{url}/api/plans").text == "hello from /api/plans"
    assert records(region, "home") == expected


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=httpx.Timeout(20, connect=0.5)).status_code == 200
    except (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError):
        return False


def test_records_are_separate_for_each_account_and_region_and_survive_a_restart(tmp_path: Path) -> None:
    with running_region(tmp_path) as region:
        places = ("home", *ELSEWHERE)
        for where in places:
            make_records(region, where)
        before = {where: records(region, where) for where in places}
        for where, seen in before.items():
            name, key = ELSEWHERE.get(where, (region.config.region, region.config.account_id))
            account = key if key.isdecimal() else region.config.account_id
            assert seen == {
                "secret": where, "parameter": where, "alarm": [where], "rule": where, "groups": 1, "topics": 1,
                "repositories": 1, "arn": [name, account],
            }  # fmt: skip
        daemon.stop(region.config)
        daemon.start(region.config)
        after = {where: records(region, where) for where in places}
        assert json.dumps(after) == json.dumps(before)
