"""The state of an environment, read from AWS's API."""

from __future__ import annotations

from alva.aws import Aws
from alva.release.manifest import Manifest
from alva.release.status import read_status


def test_alarms_in_the_state_alarm_have_the_part_that_the_manifest_names(aws: Aws, manifest: Manifest) -> None:
    cloudwatch = aws.client("cloudwatch")
    names = {each: f"{manifest.alarm_prefix}{each}" for each in ("api-errors", "by-hand", "quiet")}
    for alarm in names.values():
        cloudwatch.put_metric_alarm(
            AlarmName=alarm, Namespace="n", MetricName="m", Statistic="Sum", Period=60, EvaluationPeriods=1,
            Threshold=1, ComparisonOperator="GreaterThanThreshold",
        )  # fmt: skip
    for each in ("api-errors", "by-hand"):
        cloudwatch.set_alarm_state(AlarmName=names[each], StateValue="ALARM", StateReason="a test")
    assert {alarm.name: alarm.part for alarm in read_status(aws, manifest).alarms} == {
        "api-errors": "api",
        "by-hand": "",
    }
