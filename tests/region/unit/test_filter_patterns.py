"""Filter patterns match as AWS documents them, in searches and in metric filters."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from ministack.services import cloudwatch_logs

from alva.region import filter_patterns, validation
from alva.region.aws_error import AwsError
from alva.region.cloudwatch import metrics
from alva.region.cloudwatch.metrics import Metrics
from alva.region.filter_patterns import PatternError, compile_pattern
from alva.region.metric_filters import MetricFilters
from alva.region.unexpected import Handler
from alva.region.validation.logs import CHECKS

NOW = int(time.time() * 1000)


@pytest.fixture
def stored() -> Metrics:
    return Metrics()


@pytest.fixture
def handler(stored: Metrics) -> Iterator[Handler]:
    cloudwatch_logs.reset()
    rules = validation.RULES["logs"]
    rules = replace(rules, answers={**rules.answers, **MetricFilters(stored).operations})
    found = validation.guard_json("logs", rules, cloudwatch_logs.handle_request)
    call(found, "CreateLogGroup", logGroupName="g")
    for stream in ("a", "b"):
        call(found, "CreateLogStream", logGroupName="g", logStreamName=stream)
    yield found
    cloudwatch_logs.reset()


def call(handler: Handler, action: str, **request: Any) -> dict[str, Any]:
    headers = {"x-amz-target": f"Logs_20140328.{action}"}
    status, _, body = asyncio.run(handler("POST", "/", headers, json.dumps(request).encode(), {}))
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body or b"{}")
    return answer


def put(handler: Handler, stream: str, *messages: str, at: int = NOW) -> None:
    events = [{"timestamp": at, "message": message} for message in messages]
    call(handler, "PutLogEvents", logGroupName="g", logStreamName=stream, logEvents=events)


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


def test_search_returns_matching_events(handler: Handler) -> None:
    put(handler, "a", ERROR, LINE)
    put(handler, "b", json.dumps({"level": "INFO"}))
    found = call(handler, "FilterLogEvents", logGroupName="g", filterPattern='{ $.level = "ERROR" }')
    assert [event["message"] for event in found["events"]] == [ERROR]
    assert "nextToken" not in found


@pytest.mark.parametrize("pattern", ["", "even"])
@pytest.mark.parametrize("size", [7, 10, 10_000])
def test_search_goes_through_all_events_in_pages(
    handler: Handler, monkeypatch: pytest.MonkeyPatch, pattern: str, size: int
) -> None:
    monkeypatch.setattr(validation.logs, "_MOST_EVENTS_OF_A_PAGE", size)
    for number in range(40):
        put(handler, "ab"[number % 3 % 2], f"{number} {('even', 'odd')[number % 2]}", at=NOW + number // 4)
    found, request = [], {"logGroupName": "g", "filterPattern": pattern, "limit": min(size, 9)}
    while True:
        answer = call(handler, "FilterLogEvents", **request)
        assert len(answer["events"]) <= request["limit"]
        found += [int(event["message"].split()[0]) for event in answer["events"]]
        if "nextToken" not in answer:
            break
        request["nextToken"] = answer["nextToken"]
    assert sorted(found) == [number for number in range(40) if not pattern or number % 2 == 0]


@pytest.mark.parametrize(("pattern", "matches"), [('{ $.level = "ERROR" }', True), ("error", False), ("[a", False)])
def test_ministacks_subscriptions_and_live_tails_match_by_these_patterns(
    monkeypatch: pytest.MonkeyPatch, pattern: str, matches: bool
) -> None:
    monkeypatch.setattr(cloudwatch_logs, "_subscription_pattern_matches", cloudwatch_logs._subscription_pattern_matches)
    filter_patterns.install()
    assert cloudwatch_logs._subscription_pattern_matches(pattern, ERROR) is matches


def points(stored: Metrics, name: str) -> list[float]:
    return sorted(part.total for point in stored.points(metrics.metric("N", name, {})) for part in point.parts)


def test_metric_filter_counts_matching_events_and_reads_values_from_fields(handler: Handler, stored: Metrics) -> None:
    def add(name: str, pattern: str, value: str, default: float | None) -> None:
        transformation = {"metricNamespace": "N", "metricName": name, "metricValue": value, "defaultValue": default}
        call(
            handler, "PutMetricFilter", logGroupName="g", filterName=name, filterPattern=pattern,
            metricTransformations=[transformation],
        )  # fmt: skip

    add("errors", '{ $.level = "ERROR" }', "1", 0)
    add("depth", "{ $.queue_depth = * }", "$.queue_depth", None)
    put(handler, "a", json.dumps({"level": "INFO", "queue_depth": 12}), LINE)
    assert (points(stored, "errors"), points(stored, "depth")) == ([0.0], [12.0])
    put(handler, "b", ERROR, ERROR)
    assert (points(stored, "errors"), points(stored, "depth")) == ([0.0, 1.0, 1.0], [12.0])


def test_metric_filters_see_accepted_events_and_there_can_be_more_than_a_page_of_them(
    handler: Handler, stored: Metrics
) -> None:
    for number in range(60):
        transformation = {"metricNamespace": "N", "metricName": f"m{number}", "metricValue": "1"}
        call(
            handler, "PutMetricFilter", logGroupName="g", filterName=f"f{number}", filterPattern="",
            metricTransformations=[transformation],
        )  # fmt: skip
    put(handler, "a", "too old", at=NOW - 15 * 24 * 3600 * 1000)
    put(handler, "a", "new")
    assert [points(stored, f"m{number}") for number in range(60)] == [[1.0]] * 60
