"""CloudWatch answers the query protocol as it answers JSON, refuses CBOR, and sends alarms as AWS does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from botocore.parsers import create_parser
from ministack import app as ministack_app
from ministack.services import cloudwatch

from alva.region.cloudwatch.alarms import Alarms
from alva.region.cloudwatch.api import CloudWatch
from alva.region.cloudwatch.metrics import Metrics
from alva.region.query_protocol import flatten, service_model
from alva.region.unexpected import Handler

MODEL = service_model("cloudwatch")
TOPIC = "arn:aws:sns:us-east-1:000000000000:alarms"
ALARM = {
    "AlarmName": "R&D <1>", "AlarmDescription": "", "ActionsEnabled": False, "OKActions": [TOPIC],
    "AlarmActions": [TOPIC], "InsufficientDataActions": [TOPIC], "MetricName": "m", "Namespace": "n",
    "Statistic": "Sum", "Dimensions": [{"Name": "d", "Value": "v"}], "Period": 60, "EvaluationPeriods": 3,
    "DatapointsToAlarm": 2, "Threshold": 1.5, "ComparisonOperator": "GreaterThanThreshold",
    "TreatMissingData": "notBreaching",
}  # fmt: skip


@pytest.fixture
def handlers() -> Iterator[dict[str, Handler]]:
    service = CloudWatch(Metrics())
    service.reset()
    yield {"monitoring": service.handle_request}
    service.reset()


def call(handlers: dict[str, Handler], protocol: str, action: str, request: Any) -> Any:
    """The response that a client of the query protocol reads."""
    if protocol == "json":
        headers, body = {"x-amz-target": f"GraniteServiceVersion20100801.{action}"}, json.dumps(request).encode()
    else:
        headers, body = {}, urlencode({"Action": action, "Version": "2010-08-01", **flatten(request)}).encode()
    status, answer_headers, answer = asyncio.run(handlers["monitoring"]("POST", "/", headers, body, {}))
    response = {"status_code": status, "headers": answer_headers, "body": answer}
    read = create_parser(protocol).parse(response, MODEL.operation_model(action).output_shape)
    read.pop("ResponseMetadata", None)
    return read


@pytest.mark.parametrize("written", ["query", "json"])
def test_query_protocol_and_json_have_the_same_responses(handlers: dict[str, Handler], written: str) -> None:
    call(handlers, written, "PutMetricAlarm", ALARM)
    call(handlers, written, "SetAlarmState", {"AlarmName": "R&D <1>", "StateValue": "ALARM", "StateReason": "a < b"})
    datum = {"MetricName": "m", "Dimensions": [{"Name": "d", "Value": "v"}], "Value": 2.5, "Unit": "Count"}
    call(handlers, written, "PutMetricData", {"Namespace": "n", "MetricData": [datum]})
    window = {"StartTime": "2000-01-01T00:00:00Z", "EndTime": "2100-01-01T00:00:00Z", "Period": 60}
    metric = {"Namespace": "n", "MetricName": "m", "Dimensions": [{"Name": "d", "Value": "v"}]}
    query = {"Id": "a", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}}
    for action, request in (
        ("DescribeAlarms", {}),
        ("DescribeAlarms", {"AlarmNames": ["R&D <1>"]}),
        ("DescribeAlarmsForMetric", {"Namespace": "n", "MetricName": "m"}),
        ("DescribeAlarmHistory", {"AlarmName": "R&D <1>"}),
        ("ListMetrics", {"Namespace": "n"}),
        ("GetMetricStatistics", {**metric, "Statistics": ["Sum"], **window}),
        ("GetMetricData", {"MetricDataQueries": [query], **window}),
        ("DescribeAlarms", {"MaxRecords": 1000}),
    ):
        answers = [call(handlers, protocol, action, request) for protocol in ("query", "json")]
        for answer in answers:
            answer.get("Error", {}).pop("Type", None)  # JSON's errors have none.
        assert answers[0] == answers[1]
        assert any(answers[0].values())
    (alarm,) = call(handlers, "query", "DescribeAlarms", {})["MetricAlarms"]
    assert {name: alarm.get(name) for name in ALARM} == ALARM


@pytest.mark.parametrize("headers", [{"smithy-protocol": "rpc-v2-cbor"}, {"content-type": "application/cbor"}])
def test_cbor_is_refused_by_name(handlers: dict[str, Handler], headers: dict[str, str]) -> None:
    path = "/service/GraniteServiceVersion20100801/operation/PutMetricAlarm"
    status, answered, body = asyncio.run(handlers["monitoring"]("POST", path, headers, b"\xa0", {}))
    assert status == 415
    response = {"status_code": status, "headers": answered, "body": body}
    error = create_parser("smithy-rpc-v2-cbor").parse(response, MODEL.operation_model("PutMetricAlarm").output_shape)
    assert error["Error"]["Code"] == "UnsupportedProtocol"
    assert "does not honour the protocol smithy-rpc-v2-cbor" in error["Error"]["Message"]
    assert call(handlers, "json", "DescribeAlarms", {})["MetricAlarms"] == []


def published(monkeypatch: pytest.MonkeyPatch, alarm: dict[str, Any]) -> dict[str, list[str]]:
    """The form that SNS gets for an alarm that goes from OK to ALARM."""
    forms: list[dict[str, list[str]]] = []

    async def sns(_: str, __: str, ___: Any, body: bytes, ____: Any) -> Any:
        forms.append(parse_qs(body.decode(), keep_blank_values=True))
        return 200, {}, b"<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>"

    async def notify() -> None:
        work: list[Any] = []
        region: Any = SimpleNamespace(
            background=SimpleNamespace(spawn=lambda name, job, context: work.append(job))  # noqa: ARG005
        )
        monkeypatch.setitem(ministack_app.SERVICE_HANDLERS, "sns", sns)
        monkeypatch.setattr(cloudwatch, "_dispatch_alarm_actions", cloudwatch._dispatch_alarm_actions)
        Alarms(region).install()
        cloudwatch._dispatch_alarm_actions(alarm, "OK", "ALARM", "why")
        for job in work:
            await job

    asyncio.run(notify())
    (form,) = forms
    return form


STORED = {
    **ALARM, "ActionsEnabled": True, "AlarmArn": "arn:aws:cloudwatch:us-east-1:000000000000:alarm:R&D <1>",
    "AlarmConfigurationUpdatedTimestamp": 1666172259, "Unit": None,
}  # fmt: skip


@pytest.mark.aws_fact
def test_a_topic_gets_the_members_that_aws_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's message in keephq/keep (keep/providers/servicenow_provider/servicenow_provider.py)."""
    form = published(monkeypatch, STORED)
    assert form["TopicArn"] == [TOPIC]
    assert form["Subject"] == ['ALARM: "R&D <1>" in US East (N. Virginia)']
    message = json.loads(form["Message"][0])
    assert message.pop("StateChangeTime").endswith("+0000")
    assert message == {
        "AlarmName": "R&D <1>", "AlarmDescription": "", "AWSAccountId": "000000000000",
        "AlarmConfigurationUpdatedTimestamp": "2022-10-19T09:37:39.000+0000", "NewStateValue": "ALARM",
        "NewStateReason": "why", "Region": "US East (N. Virginia)", "AlarmArn": STORED["AlarmArn"],
        "OldStateValue": "OK", "OKActions": [TOPIC], "AlarmActions": [TOPIC], "InsufficientDataActions": [TOPIC],
        "Trigger": {
            "MetricName": "m", "Namespace": "n", "StatisticType": "Statistic", "Statistic": "SUM", "Unit": None,
            "Dimensions": [{"value": "v", "name": "d"}], "Period": 60, "EvaluationPeriods": 3, "DatapointsToAlarm": 2,
            "ComparisonOperator": "GreaterThanThreshold", "Threshold": 1.5, "TreatMissingData": "notBreaching",
            "EvaluateLowSampleCountPercentile": "",
        },
    }  # fmt: skip


def test_an_alarm_on_metric_math_sends_its_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = {"Namespace": "n", "MetricName": "m", "Dimensions": [{"Name": "d", "Value": "v"}]}
    metrics = [
        {"Id": "e", "Expression": "m1 * 2", "ReturnData": True},
        {"Id": "m1", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}, "ReturnData": False},
    ]
    trigger = json.loads(published(monkeypatch, {**STORED, "Metrics": metrics})["Message"][0])["Trigger"]
    assert "MetricName" not in trigger
    assert trigger["Metrics"][1]["MetricStat"]["Metric"]["Dimensions"] == [{"value": "v", "name": "d"}]
