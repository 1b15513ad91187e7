"""Alarms: states and reasons from data, and a load balancer's alarm in a region."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import httpx
import pytest
from ministack import app as ministack_app

from alva.region.background import Background
from alva.region.cloudwatch.alarms import Alarms, evaluate, judge
from alva.region.cloudwatch.api import CloudWatch
from alva.region.cloudwatch.metric_math import calculate
from alva.region.cloudwatch.metrics import Metrics
from alva.region.control_plane import call
from tests.waiting import async_until, until

STARTS = [180.0, 120.0, 60.0]


def alarm(**more):
    return {
        "AlarmName": "errors",
        "AlarmArn": "arn:aws:cloudwatch:us-east-1:000000000000:alarm:errors",
        "Namespace": "AWS/ApplicationELB",
        "MetricName": "HTTPCode_Target_5XX_Count",
        "Dimensions": [{"Name": "LoadBalancer", "Value": "app/x/1"}],
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 3,
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 5,
        "StateValue": "INSUFFICIENT_DATA",
        "StateReason": "",
    } | more


@pytest.fixture
def put():
    """Store data points with a time some seconds ago."""
    metrics = Metrics()
    CloudWatch(metrics).reset()

    def store(value, seconds_ago=5, load_balancer="app/x/1"):
        of = {"LoadBalancer": load_balancer}
        name = "HTTPCode_Target_5XX_Count"
        metrics.put("AWS/ApplicationELB", name, of, "Count", [value], at=time.time() - seconds_ago)

    store.metrics = metrics
    yield store
    CloudWatch(metrics).reset()


@pytest.mark.parametrize(
    ("values", "settings", "state"),
    [
        ((6, 6, 6), {}, "ALARM"),
        ((6, 6, 5), {}, "OK"),
        ((6, 0, 6), {"DatapointsToAlarm": 2}, "ALARM"),
        ((6, 0, 0), {"DatapointsToAlarm": 2}, "OK"),
        ((6, None, None), {"DatapointsToAlarm": 1}, "ALARM"),
        ((None, None, None), {}, "INSUFFICIENT_DATA"),
        ((None, None, None), {"TreatMissingData": "notBreaching"}, "OK"),
        ((None, None, None), {"TreatMissingData": "breaching"}, "ALARM"),
        ((0, None, None), {"TreatMissingData": "breaching"}, "OK"),
        ((0, None, None), {"TreatMissingData": "breaching", "DatapointsToAlarm": 2}, "ALARM"),
        ((1, 1, 1), {"ComparisonOperator": "LessThanThreshold", "Threshold": 2}, "ALARM"),
    ],
)
def test_the_state_follows_from_m_of_n_periods_and_the_treatment_of_missing_data(values, settings, state):
    assert judge(alarm(**settings), values, STARTS)[0] == state


def test_ignored_missing_data_do_not_change_the_state():
    assert judge(alarm(TreatMissingData="ignore"), (None, None, None), STARTS) is None


@pytest.mark.parametrize(
    ("values", "state"),
    [((None, None, None), None), ((1, None, None), "OK"), ((0, None, None), "OK"), ((0, 0, None), "ALARM")],
)
def test_periods_before_the_regions_start_are_unknown_rather_than_missing(values, state):
    below = {"ComparisonOperator": "LessThanThreshold", "Threshold": 1, "DatapointsToAlarm": 2}
    verdict = judge(alarm(TreatMissingData="breaching", **below), values, STARTS, known_since=150.0)
    assert (verdict and verdict[0]) == state


def test_the_reason_is_in_cloudwatchs_words():
    assert judge(alarm(DatapointsToAlarm=2), (7, 0, 6), STARTS)[1] == (
        "Threshold Crossed: 2 out of the last 3 datapoints [7 (01/01/70 00:03:00), 6 (01/01/70 00:01:00)] were greater"
        " than the threshold (5.0) (minimum 2 datapoints for OK -> ALARM transition)."
    )


def test_an_alarm_watches_its_own_dimensions_and_each_period_by_itself(put):
    watched = alarm(EvaluationPeriods=2, DatapointsToAlarm=2, TreatMissingData="notBreaching")
    put(100, load_balancer="app/other/2")
    assert evaluate(put.metrics, watched)[0] == "OK"
    watched["StateValue"] = "OK"
    put(4)
    put(4, seconds_ago=65)
    assert evaluate(put.metrics, watched) is None
    put(4)
    put(4, seconds_ago=66)
    state, reason = evaluate(put.metrics, watched)
    assert state == "ALARM"
    assert "2 out of the last 2 datapoints" in reason


def test_a_changed_state_is_in_the_history_and_changes_the_composite_alarms(put, monkeypatch):
    background, saves = Background(), []
    persistence = SimpleNamespace(mark_changed=lambda: saves.append(1))
    service = CloudWatch(put.metrics)
    monkeypatch.setitem(ministack_app.SERVICE_HANDLERS, "monitoring", service.handle_request)
    names = [f"alarm-{number}" for number in range(120)]

    async def evaluated():
        for name in names:
            request = alarm(AlarmName=name, EvaluationPeriods=1, TreatMissingData="notBreaching")
            await call("monitoring", "PutMetricAlarm", request)
        await call("monitoring", "PutCompositeAlarm", {"AlarmName": "any", "AlarmRule": 'ALARM("alarm-119")'})
        region = SimpleNamespace(background=background, persistence=persistence, metrics=put.metrics)
        component = Alarms(region, evaluation_seconds=0.01)
        await component.start()
        await async_until(lambda: len(saves) == len(names))
        put(100)
        await async_until(lambda: len(saves) == 2 * len(names))
        await component.stop()
        history = await call("monitoring", "DescribeAlarmHistory", {"AlarmName": "alarm-119"})
        return history, await call("monitoring", "DescribeAlarms", {"AlarmTypes": ["CompositeAlarm"]})

    history, composite = asyncio.run(evaluated())
    assert background.failures == []
    assert [each["HistorySummary"] for each in history["AlarmHistoryItems"]] == [
        "Alarm updated from OK to ALARM",
        "Alarm updated from INSUFFICIENT_DATA to OK",
        "Alarm updated from INSUFFICIENT_DATA to INSUFFICIENT_DATA",
    ]
    assert [each["StateValue"] for each in composite["CompositeAlarms"]] == ["ALARM"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("100 * (e / r)", 25),
        ("IF(r > 10, e, 0)", 0),
        ("FILL(gone, 7) + 1", 8),
        ("SUM([e, r, gone])", 5),
        ("e / zero", None),
        ("gone + 1", None),
        ("-ABS(-e)", -1),
    ],
)
def test_metric_math_is_calculated_and_has_no_value_without_data(expression, value):
    metrics = {"e": 1, "r": 4, "zero": 0, "gone": None}
    assert calculate(expression, metrics.__getitem__) == value


@pytest.mark.parametrize("expression", ["ANOMALY_DETECTION_BAND(m1)", "m1 +", "__import__('os')", "SEARCH('x', 'Sum')"])
def test_unsupported_metric_math_is_an_error(expression):
    with pytest.raises(ValueError, match="cannot evaluate metric math"):
        calculate(expression, lambda _: 1.0)


def test_a_metric_math_alarm_is_evaluated(put):
    stat = {
        "Metric": {
            "Namespace": "AWS/ApplicationELB",
            "MetricName": "HTTPCode_Target_5XX_Count",
            "Dimensions": [{"Name": "LoadBalancer", "Value": "app/x/1"}],
        },
        "Period": 60,
        "Stat": "Sum",
    }
    math = alarm(
        EvaluationPeriods=1,
        Metrics=[
            {"Id": "m1", "MetricStat": stat, "ReturnData": False},
            {"Id": "e1", "Expression": "m1 * 2", "ReturnData": True},
        ],
    )
    for key in ("Namespace", "MetricName", "Dimensions", "Statistic", "Period"):
        del math[key]
    put(3)
    assert evaluate(put.metrics, math)[0] == "ALARM"


@pytest.mark.region
def test_an_alarm_on_the_load_balancers_errors_is_in_alarm(region):
    template = {
        "Resources": {
            "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
            "Gateway": {"Type": "AWS::EC2::InternetGateway"},
            "Attachment": {
                "Type": "AWS::EC2::VPCGatewayAttachment",
                "Properties": {"VpcId": {"Ref": "Vpc"}, "InternetGatewayId": {"Ref": "Gateway"}},
            },
            **{
                f"Subnet{zone}": {
                    "Type": "AWS::EC2::Subnet",
                    "Properties": {
                        "VpcId": {"Ref": "Vpc"},
                        "CidrBlock": f"10.0.{number}.0/24",
                        "AvailabilityZone": f"us-east-1{zone.lower()}",
                    },
                }
                for number, zone in enumerate("AB")
            },
            "Visitors": {
                "Type": "AWS::EC2::SecurityGroup",
                "Properties": {
                    "VpcId": {"Ref": "Vpc"},
                    "GroupDescription": "visitors",
                    "SecurityGroupIngress": [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}],
                },
            },
            "Alb": {
                "Type": "AWS::ElasticLoadBalancingV2::LoadBalancer",
                "DependsOn": "Attachment",
                "Properties": {
                    "Subnets": [{"Ref": "SubnetA"}, {"Ref": "SubnetB"}],
                    "SecurityGroups": [{"Ref": "Visitors"}],
                },
            },
            "Group": {
                "Type": "AWS::ElasticLoadBalancingV2::TargetGroup",
                "Properties": {"Port": 80, "Protocol": "HTTP", "TargetType": "ip", "VpcId": {"Ref": "Vpc"}},
            },
            "Http": {
                "Type": "AWS::ElasticLoadBalancingV2::Listener",
                "Properties": {
                    "LoadBalancerArn": {"Ref": "Alb"},
                    "Port": 80,
                    "Protocol": "HTTP",
                    "DefaultActions": [{"Type": "forward", "TargetGroupArn": {"Ref": "Group"}}],
                },
            },
            "Errors": {
                "Type": "AWS::CloudWatch::Alarm",
                "Properties": {
                    "AlarmName": "elb-rings",
                    "Namespace": "AWS/ApplicationELB",
                    "MetricName": "HTTPCode_ELB_5XX_Count",
                    "Dimensions": [{"Name": "LoadBalancer", "Value": {"Fn::GetAtt": ["Alb", "LoadBalancerFullName"]}}],
                    "Statistic": "Sum",
                    "Period": 60,
                    "EvaluationPeriods": 1,
                    "Threshold": 2,
                    "ComparisonOperator": "GreaterThanThreshold",
                    "TreatMissingData": "notBreaching",
                },
            },
        },
        "Outputs": {"Url": {"Value": {"Fn::Sub": "http://${Alb.DNSName}"}}},
    }
    stack = region.create("alarm-rings", template)
    assert stack.status == "CREATE_COMPLETE", stack.events
    client = region.client("cloudwatch")

    def state():
        return client.describe_alarms(AlarmNames=["elb-rings"])["MetricAlarms"][0]

    def answered():
        try:
            return [httpx.get(stack.outputs["Url"]).status_code for _ in range(5)]
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            return None

    until(lambda: state()["StateValue"] == "OK", "the alarm to be OK")
    assert until(answered, "the load balancer to listen") == [503] * 5
    until(lambda: state()["StateValue"] == "ALARM", "the alarm to ring")
    assert "was greater than the threshold (2.0)" in state()["StateReason"]
    assert region.delete("alarm-rings").status == "DELETE_COMPLETE"
