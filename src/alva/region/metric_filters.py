"""CloudWatch Logs' metric filters: publish metric points for matching log events. MiniStack only records filters.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/MonitoringLogData.html
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from alva.region import filter_patterns
from alva.region.cloudwatch.metrics import Metrics
from alva.region.filter_patterns import PatternError
from alva.region.validation import logs

logger = logging.getLogger(__name__)

Json = dict[str, Any]
Event = Mapping[str, Any]
Forward = Callable[[str, Json], Awaitable[Json]]


class MetricFilters:
    """Publishes the points of each batch of events."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._minutes: dict[tuple[str, str], int] = {}
        """(log group, filter) -> the minute of its last value, including default values."""

    @property
    def operations(self) -> Mapping[str, Callable[[Json, Forward], Awaitable[Json]]]:
        """The actions of CloudWatch Logs that this handles."""
        return {"PutLogEvents": self.put_events}

    async def put_events(self, request: Json, forward: Forward) -> Json:
        """PutLogEvents: store the events, then publish the points of the group's filters for the accepted ones."""
        accepted: list[Event] = []

        async def store(action: str, stored: Json) -> Json:
            answer = await forward(action, stored)
            accepted.extend(stored.get("logEvents", ()))
            return answer

        answer = await logs.put_events(request, store)
        group = request["logGroupName"]
        async for metric_filter in _filters(group, forward):
            name = metric_filter["filterName"]
            try:
                self._apply(group, name, metric_filter, accepted)
            except PatternError as error:
                logger.warning("cannot apply metric filter %s of %s: %s", name, group, error)
        return answer

    def _apply(self, group: str, name: str, metric_filter: Mapping[str, Any], events: Sequence[Event]) -> None:
        matches = filter_patterns.compile_pattern(metric_filter.get("filterPattern", ""))
        now = int(time.time() * 1000)
        had_value = False
        for event in events:
            if not matches(event["message"]):
                continue
            for transformation in metric_filter["metricTransformations"]:
                value = _value(transformation.get("metricValue", "1"), event["message"])
                dimensions = {
                    key: str(filter_patterns.field(event["message"], selector))
                    for key, selector in (transformation.get("dimensions") or {}).items()
                }
                if value is not None:
                    had_value = True
                    self._put(transformation, dimensions, event.get("timestamp", now) / 1000, value)
        minute = now // 60_000
        if not had_value and self._minutes.get((group, name)) != minute:
            # No event of the batch matches: publish the default value, once a minute.
            for transformation in metric_filter["metricTransformations"]:
                if transformation.get("defaultValue") is not None:
                    self._put(transformation, {}, now / 1000, float(transformation["defaultValue"]))
        self._minutes[group, name] = minute

    def _put(self, transformation: Mapping[str, Any], dimensions: Mapping[str, str], at: float, value: float) -> None:
        name, unit = transformation["metricName"], transformation.get("unit") or "None"
        self._metrics.put(transformation["metricNamespace"], name, dimensions, unit, [value], at=at)


async def _filters(group: str, forward: Forward) -> AsyncIterator[Json]:
    """The metric filters of a log group."""
    request = {"logGroupName": group}
    while True:
        answer = await forward("DescribeMetricFilters", request)
        for each in answer["metricFilters"]:
            yield each
        if "nextToken" not in answer:
            return
        request["nextToken"] = answer["nextToken"]


def _value(metric_value: str, message: str) -> float | None:
    found = filter_patterns.field(message, metric_value) if metric_value.startswith("$") else metric_value
    try:
        return float(str(found))
    except ValueError:
        return None
