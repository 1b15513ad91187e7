"""Reads the charts of the environment's CloudWatch dashboard, with the thresholds of its alarms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from alva.aws import Aws, explained, pages
from alva.release.alarms import read_alarms
from alva.release.manifest import Manifest

PERIOD_SECONDS = 60
QUERIES_PER_CALL = 500
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html"""


@dataclass(frozen=True)
class Metric:
    """One line of a chart."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str

    def label(self, others: Sequence[Metric]) -> str:
        """The name, statistic or last dimension that distinguishes it from the other lines of its chart."""
        of = self.dimensions[-1][1] if self.dimensions else ""
        words = [of] if len({each.dimensions for each in others}) > 1 else []
        words += [self.name] if len({each.name for each in others}) > 1 or not words else []
        words += [self.statistic] if len({each.statistic for each in others}) > 1 else []
        return " ".join(words)


def read_charts(aws: Aws, manifest: Manifest, *, minutes: int) -> dict[str, Any]:
    """Read the charts and their values, one per minute (null where there is none). Raises AlvaError.

    `times` are seconds since 1970, the same for all lines.
    """
    cloudwatch = aws.client("cloudwatch")
    with explained("read the dashboard"):
        body = json.loads(cloudwatch.get_dashboard(DashboardName=manifest.dashboard)["DashboardBody"])
    charts = [(each["properties"]["title"], list(_metrics(each["properties"]))) for each in body["widgets"]]
    alarms = read_alarms(aws, manifest)
    end = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    start = end - timedelta(minutes=minutes)
    values = _values(cloudwatch, [metric for _, metrics in charts for metric in metrics], start, end)
    times = [int(start.timestamp()) + PERIOD_SECONDS * number for number in range(minutes)]
    return {
        "times": times,
        "charts": [
            {
                "title": title,
                "lines": [
                    {"label": metric.label(metrics), "values": [values[metric].get(time) for time in times]}
                    for metric in metrics
                ],
                "thresholds": [
                    {
                        "label": alarm["AlarmName"].removeprefix(manifest.alarm_prefix),
                        "value": alarm["Threshold"],
                        "state": alarm["StateValue"],
                        "comparison": alarm["ComparisonOperator"],
                    }
                    for alarm in alarms
                    if any(_is_about(alarm, metric) for metric in metrics)
                ],
            }
            for title, metrics in charts
        ],
    }


def _metrics(properties: Mapping[str, Any]) -> Iterator[Metric]:
    for entry in properties["metrics"]:
        words = [word for word in entry if isinstance(word, str)]
        options = entry[-1] if isinstance(entry[-1], dict) else {}
        yield Metric(
            words[0],
            words[1],
            tuple(zip(words[2::2], words[3::2], strict=True)),
            options.get("stat", properties.get("stat", "Average")),
        )


def _is_about(alarm: Mapping[str, Any], metric: Metric) -> bool:
    dimensions = tuple((each["Name"], each["Value"]) for each in alarm.get("Dimensions", []))
    return (alarm.get("Namespace"), alarm.get("MetricName")) == (metric.namespace, metric.name) and set(
        dimensions
    ) == set(metric.dimensions)


def _values(
    cloudwatch: Any, metrics: Sequence[Metric], start: datetime, end: datetime
) -> dict[Metric, dict[int, float]]:
    found: dict[Metric, dict[int, float]] = {metric: {} for metric in metrics}
    for first in range(0, len(metrics), QUERIES_PER_CALL):
        chunk = metrics[first : first + QUERIES_PER_CALL]
        queries = [
            {
                "Id": f"m{number}",
                "MetricStat": {
                    "Metric": {
                        "Namespace": metric.namespace,
                        "MetricName": metric.name,
                        "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
                    },
                    "Period": PERIOD_SECONDS,
                    "Stat": metric.statistic,
                },
            }
            for number, metric in enumerate(chunk)
        ]
        with explained("read metrics"):
            results = pages(
                cloudwatch,
                "get_metric_data",
                "MetricDataResults",
                MetricDataQueries=queries,
                StartTime=start,
                EndTime=end,
            )
            for result in results:
                metric = chunk[int(result["Id"][1:])]
                pairs = zip(result["Timestamps"], result["Values"], strict=True)
                found[metric] |= {int(time.timestamp()): value for time, value in pairs}
    return found
