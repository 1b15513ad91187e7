"""Evaluates CloudWatch alarms continuously, over the periods, dimensions and missing data that they name.

MiniStack stores alarms, sets their states and evaluates composite alarms. It evaluates no alarm on a metric, since it
has no data points. https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html

Periods end now rather than on the minute: an alarm changes its state a little sooner than on AWS, by the same numbers.
Periods before the region's start in which there are no data are unknown, not missing: AWS's metrics do not stop.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch

from alva.region.background import end
from alva.region.cloudwatch import alarm_messages, metrics
from alva.region.cloudwatch.metric_math import value_of
from alva.region.cloudwatch.metrics import Metrics
from alva.region.control_plane import call

if TYPE_CHECKING:
    from alva.region.region import Region

EVALUATION_SECONDS = 5.0

Alarm = dict[str, Any]
Values = Sequence[float | None]
"""One value for each period, the newest first; None where there are no data."""

_BREACHES: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}


class Alarms:
    """The component that evaluates the alarms."""

    def __init__(self, region: Region, *, evaluation_seconds: float = EVALUATION_SECONDS) -> None:
        self._region = region
        self._evaluation_seconds = evaluation_seconds
        self._started_at = time.time()
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Replace MiniStack's messages to topics."""
        cloudwatch._dispatch_alarm_actions = self._notify

    async def start(self) -> None:
        """Start to evaluate."""
        self._task = self._region.background.run_forever("evaluate alarms", self._evaluate_all)

    async def stop(self) -> None:
        """Stop evaluating; states stay as they are."""
        await end(self._task)
        self._task = None

    def _notify(self, alarm: Alarm, before: str, state: str, reason: str) -> None:
        """Send a message to each topic among the alarm's actions for its new state."""
        account, region = get_account_id(), get_region()
        for topic in alarm_messages.topics(alarm, state):
            form = {
                "TopicArn": topic,
                "Subject": alarm_messages.subject(alarm, state, region),
                "Message": json.dumps(alarm_messages.message(alarm, before, state, reason, account, region)),
            }
            self._region.background.spawn(
                f"send alarm {alarm['AlarmName']} to {topic}",
                call("sns", "Publish", form),
                context=contextvars.copy_context(),
            )

    async def _evaluate_all(self) -> None:
        for alarm in await _all_alarms():
            name = f"evaluate alarm {alarm['AlarmName']}"
            try:
                changed = evaluate(self._region.metrics, alarm, known_since=self._started_at)
                if changed is not None:
                    state, reason = changed
                    request = {"AlarmName": alarm["AlarmName"], "StateValue": state, "StateReason": reason}
                    await call("monitoring", "SetAlarmState", request)
            except Exception as error:
                # The other alarms are still evaluated.
                self._region.background.failed(name, error)
                continue
            self._region.background.succeeded(name)
            if changed is not None:
                self._region.persistence.mark_changed()
        await asyncio.sleep(self._evaluation_seconds)


async def _all_alarms() -> list[Alarm]:
    """All alarms on metrics."""
    found: list[Alarm] = []
    request: dict[str, Any] = {"AlarmTypes": ["MetricAlarm"], "MaxRecords": 100}
    while True:
        answer = await call("monitoring", "DescribeAlarms", request)
        found += answer["MetricAlarms"]
        if "NextToken" not in answer:
            return found
        request["NextToken"] = answer["NextToken"]


def evaluate(stored: Metrics, alarm: Alarm, *, known_since: float = 0.0) -> tuple[str, str] | None:
    """The alarm's new state and its reason, from its metrics; None if its state does not change.

    `known_since` (seconds since 1970) is when the region started.
    """
    now = time.time()
    period = _period(alarm)
    count = int(alarm.get("EvaluationPeriods") or 1)
    values = metric_values(stored, alarm, period, count, now)
    starts = [now - period * (index + 1) for index in range(count)]
    verdict = judge(alarm, values, starts, known_since=known_since)
    return None if verdict is None or verdict[0] == alarm["StateValue"] else verdict


def judge(
    alarm: Mapping[str, Any], values: Values, starts: Sequence[float], *, known_since: float = 0.0
) -> tuple[str, str] | None:
    """The state that follows from the values of the last periods, and the reason in CloudWatch's words.

    None when the state stays as it is: there are no data, and TreatMissingData is "ignore", or some periods started
    before `known_since` and would not count as "notBreaching".
    """
    threshold = float(alarm.get("Threshold") or 0)
    breaches, words = _BREACHES[alarm["ComparisonOperator"]]
    total = len(values)
    needed = int(alarm.get("DatapointsToAlarm") or total)
    missing_data = alarm.get("TreatMissingData") or "missing"
    known = [(value, start) for value, start in zip(values, starts, strict=True) if value is not None]
    missing = sum(value is None and start >= known_since for value, start in zip(values, starts, strict=True))
    breaching = [(value, start) for value, start in known if breaches(value, threshold)]
    if not known:
        if missing_data == "ignore" or (missing < total and missing_data != "notBreaching"):
            return None
        if missing_data == "missing":
            return "INSUFFICIENT_DATA", f"Insufficient Data: {total} datapoints were unknown."
        treated = "Breaching" if missing_data == "breaching" else "NonBreaching"
        periods = f"{total} period{'s' if total > 1 else ''}"
        return (
            "ALARM" if missing_data == "breaching" else "OK",
            f"Threshold Crossed: no datapoints were received for {periods} and {total} missing"
            f" datapoint{'s were' if total > 1 else ' was'} treated as [{treated}].",
        )
    if len(breaching) + (missing if missing_data == "breaching" else 0) >= needed:
        shown = breaching or known
        return "ALARM", _crossed(shown, total, threshold, words, needed, "OK -> ALARM")
    shown = [point for point in known if point not in breaching] or known
    return "OK", _crossed(shown, total, threshold, f"not {words}", total - needed + 1, "ALARM -> OK")


def metric_values(stored: Metrics, alarm: Mapping[str, Any], period: int, count: int, now: float) -> Values:
    """The values that the alarm watches, for each of the last `count` periods, the newest first.

    Raises ValueError for unsupported metric math.
    """
    if not alarm.get("Metrics"):
        statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average"
        stat = {"Metric": alarm, "Stat": statistic, "Unit": alarm.get("Unit")}
        return _statistics(stored, stat, period, count, now)
    series: dict[str, Values] = {}
    expressions: dict[str, str] = {}
    for query in alarm["Metrics"]:
        if "Expression" in query:
            expressions[query["Id"]] = query["Expression"]
            continue
        series[query["Id"]] = _statistics(stored, query["MetricStat"], period, count, now)
    returned = next(query["Id"] for query in alarm["Metrics"] if query.get("ReturnData", True))
    return [
        value_of(returned, {name: values[index] for name, values in series.items()}, expressions)
        for index in range(count)
    ]


def _statistics(stored: Metrics, stat: Mapping[str, Any], period: int, count: int, now: float) -> Values:
    metric, statistic = stat["Metric"], stat["Stat"]
    dimensions = {each["Name"]: each["Value"] for each in metric.get("Dimensions") or ()}
    points = stored.points(metrics.metric(metric["Namespace"], metric["MetricName"], dimensions), stat.get("Unit"))
    ends = [now - period * index for index in range(count)]
    return [metrics.statistic(metrics.between(points, end - period, end), statistic) for end in ends]


def _period(alarm: Mapping[str, Any]) -> int:
    if alarm.get("Period"):
        return int(alarm["Period"])
    for query in alarm.get("Metrics") or ():
        period = (query.get("MetricStat") or {}).get("Period") or query.get("Period")
        if period:
            return int(period)
    return 60


def _crossed(
    points: Sequence[tuple[float, float]], total: int, threshold: float, words: str, needed: int, transition: str
) -> str:
    shown = ", ".join(f"{value} ({datetime.fromtimestamp(start, UTC):%d/%m/%y %H:%M:%S})" for value, start in points)
    verb = "was" if len(points) == 1 else "were"
    return (
        f"Threshold Crossed: {len(points)} out of the last {total} datapoints [{shown}] {verb} {words} the threshold"
        f" ({threshold}) (minimum {needed} datapoint{'s' if needed > 1 else ''} for {transition} transition)."
    )
