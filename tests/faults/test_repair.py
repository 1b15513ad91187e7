"""A release repairs a broken environment with the steps of a push: build, preflight, deploy."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.waiting import until

from . import breaking
from .conftest import Environment

ALARM = "alva-staging-web-test-orders-fail"

pytestmark = pytest.mark.nightly


@pytest.fixture
def alarm(environment: Environment) -> Iterator[str]:
    """An alarm of the environment in the state ALARM."""
    cloudwatch = environment.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=ALARM,
        Namespace="Test",
        MetricName="FailedOrders",
        Statistic="Maximum",
        Period=3600,
        EvaluationPeriods=1,
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
    )
    cloudwatch.put_metric_data(Namespace="Test", MetricData=[{"MetricName": "FailedOrders", "Value": 7}])
    try:
        until(
            lambda: cloudwatch.describe_alarms(AlarmNames=[ALARM], StateValue="ALARM")["MetricAlarms"],
            "the alarm",
        )
        yield ALARM
    finally:
        cloudwatch.delete_alarms(AlarmNames=[ALARM])


def test_release_passes_preflight_while_an_alarm_is_in_alarm(environment: Environment, alarm: str) -> None:
    with environment.unharmed():
        with breaking.new_version("web")(environment):
            built = environment.alva("build", "web")
            assert built.returncode == 0, built.stderr
            preflight = environment.alva("preflight", "--image", built.stdout.strip(), "--json")
            assert preflight.returncode == 0, preflight.stderr
            (found,) = [check for check in json.loads(preflight.stdout) if check["check"] == "alarms are quiet"]
            assert (found["verdict"], alarm in found["reason"]) == ("WARN", True)
            released = environment.alva("deploy", "--image", built.stdout.strip())
        assert released.returncode == 0, released.stderr
        assert alarm in released.stderr
        assert environment.digests()["web"] == built.stdout.strip().partition("=")[2]
        assert environment.alva("up").returncode == 0
