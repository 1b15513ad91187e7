"""CloudWatch's data points: statistics, the operations that read them, and their saved state."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ministack.core import persistence as codec
from ministack.core.responses import request_scope
from ministack.services import cloudwatch

from alva.region.cloudwatch import metrics
from alva.region.cloudwatch.api import CloudWatch
from alva.region.cloudwatch.metrics import Metrics, Part
from alva.region.encoded_state import encode

NOON = 1_800_014_400.0
SERVICE = {"ClusterName": "c", "ServiceName": "web"}


@pytest.fixture
def stored() -> Metrics:
    return Metrics()


@pytest.fixture
def service(stored: Metrics) -> Iterator[CloudWatch]:
    found = CloudWatch(stored)
    found.reset()
    yield found
    found.reset()


def call(service: CloudWatch, action: str, **request: Any) -> Any:
    headers = {"x-amz-target": f"GraniteServiceVersion20100801.{action}"}
    status, _, body = asyncio.run(service.handle_request("POST", "/", headers, json.dumps(request).encode(), {}))
    return {"status": status, **json.loads(body)}


def read(service: CloudWatch, *queries: Any, **more: Any) -> dict[str, dict[float, float]]:
    answer = call(
        service, "GetMetricData", StartTime=NOON, EndTime=NOON + 600, MetricDataQueries=queries, **more
    )  # fmt: skip
    assert answer["status"] == 200, answer
    return {
        each["Id"]: dict(zip(each["Timestamps"], each["Values"], strict=True)) for each in answer["MetricDataResults"]
    }


def query(name: str, metric: str, stat: str = "Sum", **more: Any) -> dict[str, Any]:
    dimensions = [{"Name": key, "Value": value} for key, value in SERVICE.items()]
    found = {"Namespace": "N", "MetricName": metric, "Dimensions": dimensions}
    return {"Id": name, "MetricStat": {"Metric": found, "Period": 60, "Stat": stat}, **more}


def test_points_are_stored_with_how_often_they_were_seen(stored: Metrics) -> None:
    stored.put("N", "m", {"x": "y"}, "Count", [1.0, 2.0], [1.0, 5.0])
    (point,) = stored.points(metrics.metric("N", "m", {"x": "y"}))
    assert (point.unit, point.parts) == ("Count", (Part(1, 1, 1, 1), Part(5, 10, 2, 2)))
    assert abs(point.at - time.time()) < 60


@pytest.mark.parametrize(
    ("name", "value"),
    [("SampleCount", 10), ("Sum", 55), ("Average", 5.5), ("Minimum", 1), ("Maximum", 10), ("p50", 5.5), ("p100", 10)],
)
def test_statistics_are_over_every_value_in_its_number(name: str, value: float, stored: Metrics) -> None:
    for number in range(1, 10):
        stored.put("N", "m", {}, "Count", [number], at=NOON)
    stored.put("N", "m", {}, "Count", [10, 11], [1, 0], at=NOON)
    assert metrics.statistic(stored.points(metrics.metric("N", "m", {})), name) == value


def test_percentiles_are_missing_for_sets_of_different_values_and_for_negative_ones() -> None:
    def percentile(*parts: Part) -> float | None:
        return metrics.statistic([metrics.DataPoint(NOON, "None", parts, "")], "p50")

    assert percentile(Part(3, 6, 2, 2), Part(1, 2, 2, 2)) == 2
    assert percentile(Part(2, 3, 1, 2)) is None
    assert percentile(Part(1, -1, -1, -1)) is None


def test_statistic_that_is_not_calculated_is_an_error(service: CloudWatch, stored: Metrics) -> None:
    with pytest.raises(ValueError, match="cannot calculate the statistic 'tm90'"):
        metrics.statistic([], "tm90")
    answer = call(
        service, "GetMetricData", StartTime=NOON, EndTime=NOON + 60, MetricDataQueries=[query("a", "m", "tm90")]
    )
    stored.put("N", "m", SERVICE, "None", [1], at=NOON)
    assert answer["status"] == 200
    answer = call(
        service, "GetMetricData", StartTime=NOON, EndTime=NOON + 60, MetricDataQueries=[query("a", "m", "tm90")]
    )
    assert (answer["status"], answer["__type"]) == (400, "ValidationError")


def test_data_are_of_the_metric_with_exactly_the_dimensions_and_the_unit(service: CloudWatch, stored: Metrics) -> None:
    stored.put("N", "m", SERVICE, "Count", [1], at=NOON)
    stored.put("N", "m", {"ClusterName": "c"}, "Count", [2], at=NOON)
    stored.put("N", "m", SERVICE, "Bytes", [4], at=NOON)
    with request_scope("111111111111", "eu-west-1"):
        stored.put("N", "m", SERVICE, "Count", [8], at=NOON)
    assert read(service, query("a", "m")) == {"a": {NOON: 5}}
    of_bytes = query("a", "m")
    of_bytes["MetricStat"]["Unit"] = "Bytes"
    assert read(service, of_bytes) == {"a": {NOON: 4}}
    listed = call(service, "ListMetrics", Dimensions=[{"Name": "ServiceName"}])["Metrics"]
    assert [len(each["Dimensions"]) for each in listed] == [2]
    assert call(service, "ListMetrics", Dimensions=[{"Name": "ServiceName", "Value": "api"}])["Metrics"] == []


def test_metric_data_have_periods_metric_math_and_an_order(service: CloudWatch, stored: Metrics) -> None:
    for second, value in ((0, 1), (59, 2), (60, 4), (130, 8), (600, 16)):
        stored.put("N", "m", SERVICE, "Count", [value], at=NOON + second)
    stored.put("N", "all", SERVICE, "Count", [10], at=NOON + 61)
    share = {"Id": "share", "Expression": "100 * m / all", "Label": "Share"}
    queries = (query("m", "m", ReturnData=False), query("all", "all"), share)
    assert read(service, *queries) == {"all": {NOON + 60: 10}, "share": {NOON + 60: 40}}
    assert list(read(service, query("m", "m"))["m"]) == [NOON + 120, NOON + 60, NOON]
    assert list(read(service, query("m", "m"), ScanBy="TimestampAscending")["m"]) == [NOON, NOON + 60, NOON + 120]
    for expression, message in (("nobody + 1", "no metric has the id 'nobody'"), ("b + 1", "recursion")):
        refused = [query("m", "m"), {"Id": "b", "Expression": expression}]
        answer = call(service, "GetMetricData", StartTime=NOON, EndTime=NOON + 600, MetricDataQueries=refused)
        assert (answer["status"], answer["__type"], message in answer["message"]) == (400, "ValidationError", True)


def test_every_kind_of_datum_is_in_the_statistics(service: CloudWatch) -> None:
    statistics = {"SampleCount": 4, "Sum": 10, "Minimum": 1, "Maximum": 5}
    datum = {"MetricName": "m", "Timestamp": NOON, "Unit": "Count"}
    for more in ({"Value": 3}, {"Values": [1, 2], "Counts": [1, 2]}, {"StatisticValues": statistics}):
        assert call(service, "PutMetricData", Namespace="N", MetricData=[{**datum, **more}])["status"] == 200
    for wrong in ({}, {"Values": [1, 2], "Counts": [1]}):
        refused = [{**datum, "Value": 100}, {**datum, **wrong}]
        assert call(service, "PutMetricData", Namespace="N", MetricData=refused)["status"] == 400
    answer = call(
        service, "GetMetricStatistics", Namespace="N", MetricName="m", StartTime="2027-01-15T00:00:00Z",
        EndTime=NOON + 600, Period=60, Statistics=["Sum", "SampleCount", "Maximum"], ExtendedStatistics=["p50"],
    )  # fmt: skip
    assert answer["Datapoints"] == [{"Timestamp": NOON, "Unit": "Count", "Sum": 18, "SampleCount": 8, "Maximum": 5}]


def test_old_points_are_deleted_in_every_scope(stored: Metrics) -> None:
    for scope in (("000000000000", "us-east-1"), ("111111111111", "eu-west-1")):
        with request_scope(*scope):
            stored.put("N", "m", {}, "Count", [2], at=NOON + 1)
            stored.put("N", "m", {}, "Count", [1], at=NOON - 1)
            stored.put("N", "old", {}, "Count", [1], at=NOON - 1)
    stored.delete_before(NOON)
    for scope in (("000000000000", "us-east-1"), ("111111111111", "eu-west-1")):
        with request_scope(*scope):
            assert stored.known() == [metrics.metric("N", "m", {})]
            assert [point.at for point in stored.points(metrics.metric("N", "m", {}))] == [NOON + 1]


def test_restored_state_is_the_saved_one(service: CloudWatch, stored: Metrics) -> None:
    stored.put("N", "ä\"',[", SERVICE, "Count", [1.5, 2], at=NOON)
    call(service, "PutMetricAlarm", AlarmName="a", Namespace="N", MetricName="m", EvaluationPeriods=1)
    saved = encode(service.get_state())
    service.reset()
    service.load_persisted_state(json.loads(saved, object_hook=codec._json_object_hook))
    assert encode(service.get_state()) == saved
    assert [each["AlarmName"] for each in call(service, "DescribeAlarms")["MetricAlarms"]] == ["a"]


def test_state_of_the_earlier_format_is_restored_without_its_points(service: CloudWatch) -> None:
    call(service, "PutMetricAlarm", AlarmName="a", Namespace="N", MetricName="m", EvaluationPeriods=1)
    cloudwatch.record_metric("N", "m", 1.0)
    saved = json.loads(encode(cloudwatch.get_state()), object_hook=codec._json_object_hook)
    service.reset()
    service.load_persisted_state(saved)
    assert [each["AlarmName"] for each in call(service, "DescribeAlarms")["MetricAlarms"]] == ["a"]
    assert call(service, "ListMetrics")["Metrics"] == []
    assert not cloudwatch.get_state()["metrics"]
