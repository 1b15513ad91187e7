"""Filter patterns match as AWS documents them, in searches and in metric filters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ministack.services import cloudwatch_logs

from alva.region import filter_patterns, metric_filters
from alva.region.aws_error import AwsError
from alva.region.cloudwatch import metrics
from alva.region.filter_patterns import PatternError, compile_pattern
from alva.region.validation.logs import CHECKS

NOW = 1_800_000_000_000


@pytest.fixture(autouse=True)
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("_compile_filter_pattern", "_subscription_pattern_matches", "_fanout_to_subscription_filters"):
        monkeypatch.setattr(cloudwatch_logs, name, getattr(cloudwatch_logs, name))
    cloudwatch_logs.reset()
    metrics.reset()
    filter_patterns.install()
    metric_filters.install()
    cloudwatch_logs._create_log_group({"logGroupName": "g"})
    for stream in ("a", "b"):
        cloudwatch_logs._create_log_stream({"logGroupName": "g", "logStreamName": stream})
    yield
    cloudwatch_logs.reset()
    metrics.reset()


def put(stream: str, *messages: str, at: int = NOW) -> None:
    events = [{"timestamp": at, "message": message} for message in messages]
    cloudwatch_logs._put_log_events({"logGroupName": "g", "logStreamName": stream, "logEvents": events})


def search(**request: Any) -> dict[str, Any]:
    status, _, body = cloudwatch_logs._filter_log_events({"logGroupName": "g", **request})
    return {"status": status, **json.loads(body)}


ERROR = json.dumps({"level": "ERROR", "status": 502, "path": "/api/plans", "tags": ["a", "b"], "user": None})
LINE = "[INFO] 200 GET /index.html took ERROR_RATE"


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("", LINE, None),
        ("INFO GET", LINE, "INFO"),
        ("info", None, LINE),
        ('"200 GET"', LINE, "GET 200"),
        ("?POST ?GET", LINE, "PUT"),
        ("GET -index", "GET /", LINE),
        ("%[0-9]{3} GET%", LINE, "GET"),
        ('{ $.level = "ERROR" }', ERROR, json.dumps({"level": "INFO", "message": "ERROR"})),
        ('{ ($.level = "ERROR") || ($.level = "CRITICAL") }', ERROR, LINE),
        ("{ $.status >= 500 && $.path = /api* }", ERROR, json.dumps({"status": 404, "path": "/api/x"})),
        ('{ $.path != "/health" }', ERROR, json.dumps({"level": "ERROR"})),
        ("{ $.status = 502 }", ERROR, json.dumps({"status": "502"})),
        ('{ $.tags[1] = "b" }', ERROR, json.dumps({"tags": ["b"]})),
        ("{ $.user IS NULL }", ERROR, json.dumps({"user": "x"})),
        ("{ $.queue_depth NOT EXISTS }", ERROR, json.dumps({"queue_depth": 1})),
        ("{ $.queue_depth = * }", json.dumps({"queue_depth": 0}), ERROR),
    ],
)
def test_pattern_matches_as_aws_documents_it(pattern: str, matching: str | None, other: str | None) -> None:
    matches = compile_pattern(pattern)
    assert matching is None or matches(matching)
    assert other is None or not matches(other)


@pytest.mark.parametrize("pattern", ["{ $.level = ", '{ $.level "ERROR" }', "{ level = 1 }", "{ ($.a = 1 }", "[a, b]"])
def test_pattern_that_cannot_be_read_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)
    with pytest.raises(AwsError, match="filter pattern"):
        CHECKS["FilterLogEvents"]({"filterPattern": pattern})


def test_search_returns_matching_events() -> None:
    put("a", ERROR, LINE)
    put("b", json.dumps({"level": "INFO"}))
    assert [event["message"] for event in search(filterPattern='{ $.level = "ERROR" }')["events"]] == [ERROR]


def points(name: str) -> list[float]:
    return [part.total for point in metrics.points(metrics.metric("N", name, {})) for part in point.parts]


def test_metric_filter_counts_matching_events_and_reads_values_from_fields() -> None:
    def add(name: str, pattern: str, value: str, default: float | None) -> None:
        transformation = {"metricNamespace": "N", "metricName": name, "metricValue": value, "defaultValue": default}
        cloudwatch_logs._put_metric_filter(
            {"logGroupName": "g", "filterName": name, "filterPattern": pattern,
             "metricTransformations": [transformation]}
        )  # fmt: skip

    add("errors", '{ $.level = "ERROR" }', "1", 0)
    add("depth", "{ $.queue_depth = * }", "$.queue_depth", None)
    put("a", json.dumps({"level": "INFO", "queue_depth": 12}), LINE)
    assert (points("errors"), points("depth")) == ([0.0], [12.0])
    put("b", ERROR, ERROR)
    assert (points("errors"), points("depth")) == ([0.0, 1.0, 1.0], [12.0])
