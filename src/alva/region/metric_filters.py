"""CloudWatch Logs' metric filters: publish metric points for matching log events. MiniStack only records filters.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/MonitoringLogData.html
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ministack.services import cloudwatch_logs

from alva.region import filter_patterns
from alva.region.cloudwatch import metrics
from alva.region.filter_patterns import PatternError

logger = logging.getLogger(__name__)

Event = Mapping[str, Any]


class MetricFilters:
    """Publishes the points of each batch of events."""

    def __init__(self) -> None:
        self._minutes: dict[tuple[str, str], int] = {}
        """(log group, filter) -> the minute of its last value, including default values."""

    def publish(self, group: str, events: Sequence[Event]) -> None:
        """Publish the points of the group's filters for new events, in the scope of their request."""
        for (of_group, name), metric_filter in list(cloudwatch_logs._metric_filters.items()):
            if of_group == group:
                try:
                    self._apply(group, name, metric_filter, events)
                except PatternError as error:
                    logger.warning("cannot apply metric filter %s of %s: %s", name, group, error)

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
                    _put(transformation, dimensions, event.get("timestamp", now) / 1000, value)
        minute = now // 60_000
        if not had_value and self._minutes.get((group, name)) != minute:
            # No event of the batch matches: publish the default value, once a minute.
            for transformation in metric_filter["metricTransformations"]:
                if transformation.get("defaultValue") is not None:
                    _put(transformation, {}, now / 1000, float(transformation["defaultValue"]))
        self._minutes[group, name] = minute


def _value(metric_value: str, message: str) -> float | None:
    found = filter_patterns.field(message, metric_value) if metric_value.startswith("$") else metric_value
    try:
        return float(str(found))
    except ValueError:
        return None


def _put(transformation: Mapping[str, Any], dimensions: Mapping[str, str], at: float, value: float) -> None:
    name, unit = transformation["metricName"], transformation.get("unit") or "None"
    metrics.put(transformation["metricNamespace"], name, dimensions, unit, [value], at=at)


def install() -> None:
    """Apply the filters to every batch of events, after MiniStack has passed it to subscriptions."""
    filters, pass_on = MetricFilters(), cloudwatch_logs._fanout_to_subscription_filters

    def passed(group: str, stream: str, events: Sequence[Event]) -> None:
        pass_on(group, stream, events)
        filters.publish(group, events)

    cloudwatch_logs._fanout_to_subscription_filters = passed
