"""Evaluates CloudWatch alarms continuously, over the periods, dimensions and missing data that they name.

MiniStack evaluates an alarm only when PutMetricData is called, over one sum of all periods, regardless of dimensions,
DatapointsToAlarm and TreatMissingData, and without metric math. Its records of alarms, history and actions are used.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html

Periods end now rather than on the minute: an alarm changes its state a little sooner than on AWS, by the same numbers.
Periods before the region's start in which there are no data are unknown, not missing: AWS's metrics do not stop.
"""

from __future__ import annotations

import ast
import asyncio
import contextvars
import json
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch

from alva.region import alarm_messages
from alva.region.background import end
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
        """Replace MiniStack's evaluation, also that of PutMetricAlarm, and its messages to topics."""
        cloudwatch._evaluate_alarm = partial(evaluate, known_since=self._started_at)
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
        for alarm in list(cloudwatch._alarms.values()):
            name = f"evaluate alarm {alarm.get('AlarmName')}"
            try:
                has_changed = evaluate(alarm, known_since=self._started_at)
            except Exception as error:
                # The other alarms are still evaluated.
                self._region.background.failed(name, error)
                continue
            self._region.background.succeeded(name)
            if has_changed:
                self._region.persistence.mark_changed()
        await asyncio.sleep(self._evaluation_seconds)


def evaluate(alarm: Alarm, *, known_since: float = 0.0) -> bool:
    """Set an alarm's state from its metrics, with its history and actions; return whether it changed.

    `known_since` (seconds since 1970) is when the region started.
    """
    now = time.time()
    period = _period(alarm)
    count = int(alarm.get("EvaluationPeriods") or 1)
    values = metric_values(alarm, period, count, now)
    starts = [now - period * (index + 1) for index in range(count)]
    verdict = judge(alarm, values, starts, known_since=known_since)
    if verdict is None or verdict[0] == alarm["StateValue"]:
        return False
    before, (state, reason) = alarm["StateValue"], verdict
    alarm |= {"StateValue": state, "StateReason": reason, "StateUpdatedTimestamp": int(now)}
    cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
    cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
    cloudwatch._evaluate_parent_alarms(alarm)
    return True


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


def metric_values(alarm: Mapping[str, Any], period: int, count: int, now: float) -> Values:
    """The values that the alarm watches, for each of the last `count` periods, the newest first.

    Raises ValueError for unsupported metric math.
    """
    if not alarm.get("Metrics"):
        statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average"
        return _statistics(
            alarm["Namespace"],
            alarm["MetricName"],
            alarm.get("Dimensions") or (),
            statistic,
            alarm.get("Unit"),
            period,
            count,
            now,
        )
    series: dict[str, Values] = {}
    expressions: dict[str, str] = {}
    for query in alarm["Metrics"]:
        if "Expression" in query:
            expressions[query["Id"]] = query["Expression"]
            continue
        stat = query["MetricStat"]
        metric = stat["Metric"]
        series[query["Id"]] = _statistics(
            metric["Namespace"],
            metric["MetricName"],
            metric.get("Dimensions") or (),
            stat["Stat"],
            stat.get("Unit"),
            period,
            count,
            now,
        )
    returned = next(query["Id"] for query in alarm["Metrics"] if query.get("ReturnData", True))

    def value(name: str, index: int) -> float | None:
        if name in series:
            return series[name][index]
        if name not in expressions:
            raise ValueError(f"no metric has the id {name!r}")
        return calculate(expressions[name], lambda other: value(other, index))

    return [value(returned, index) for index in range(count)]


def calculate(expression: str, value: Callable[[str], float | None]) -> float | None:
    """Metric math for one period: arithmetic, comparisons, IF, FILL, ABS, CEIL, FLOOR, SUM, AVG, MIN and MAX of a list.

    `value` returns the metric of an id. The result is None where a metric has no data. Raises ValueError for other
    expressions.
    """

    def evaluated(node: ast.expr) -> float | None:
        match node:
            case ast.Constant(value=int() | float() as constant):
                return float(constant)
            case ast.Name(id=name):
                return value(name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                number = evaluated(operand)
                return None if number is None else -number
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _apply(_ARITHMETIC[type(op)], evaluated(left), evaluated(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
                return _apply(_COMPARISONS[type(op)], evaluated(left), evaluated(right))
            case ast.Call(func=ast.Name(id="IF"), args=[condition, yes, no]):
                chosen = evaluated(condition)
                return None if chosen is None else evaluated(yes if chosen else no)
            case ast.Call(func=ast.Name(id="FILL"), args=[metric, filling]):
                number = evaluated(metric)
                return evaluated(filling) if number is None else number
            case ast.Call(func=ast.Name(id=name), args=[ast.List(elts=elements)]) if name in _OF_LISTS:
                numbers = [number for number in map(evaluated, elements) if number is not None]
                return _OF_LISTS[name](numbers) if numbers else None
            case ast.Call(func=ast.Name(id=name), args=[argument]) if name in _OF_ONE:
                number = evaluated(argument)
                return None if number is None else _OF_ONE[name](number)
        raise ValueError(f"cannot evaluate metric math: {ast.unparse(node)!r} in {expression!r}")

    try:
        parsed = ast.parse(expression.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"cannot evaluate metric math: {expression!r}") from error
    return evaluated(parsed.body)


_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float | None]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    # CloudWatch has no value where it would divide by zero.
    ast.Div: lambda left, right: left / right if right else None,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], float | None]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_OF_LISTS: dict[str, Callable[[list[float]], float]] = {
    "SUM": sum,
    "MIN": min,
    "MAX": max,
    "AVG": lambda numbers: sum(numbers) / len(numbers),
}
_OF_ONE: dict[str, Callable[[float], float]] = {
    "ABS": abs,
    "CEIL": lambda number: float(-(-number // 1)),
    "FLOOR": lambda number: float(number // 1),
}


def _apply(function: Callable[[float, float], float | None], left: float | None, right: float | None) -> float | None:
    if left is None or right is None:
        return None
    result = function(left, right)
    return None if result is None else float(result)


def _statistics(
    namespace: str,
    name: str,
    dimensions: Sequence[Mapping[str, str]],
    statistic: str,
    unit: str | None,
    period: int,
    count: int,
    now: float,
) -> Values:
    key = (namespace, name, cloudwatch._dims_key({each["Name"]: each["Value"] for each in dimensions}))
    points = [point for point in cloudwatch._metrics.get(key) or () if not unit or point.get("Unit") == unit]
    values: list[float | None] = []
    for index in range(count):
        end = now - period * index
        inside = [point for point in points if end - period < point["Timestamp"] <= end]
        stats = cloudwatch._calc_stats(inside)
        values.append(cloudwatch._stat_value(stats, statistic, inside) if stats else None)
    return values


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
