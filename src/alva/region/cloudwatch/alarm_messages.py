"""The message that an alarm sends to a topic, as subscribers on AWS get it.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from botocore.loaders import Loader

Json = dict[str, Any]
ACTIONS = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}
"""State -> the alarm's member with the actions for it."""
LONGEST_SUBJECT = 100
"""Characters: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html"""


def topics(alarm: Mapping[str, Any], state: str) -> list[str]:
    """The topics that get a message when the alarm's state changes to `state`."""
    actions = alarm.get(ACTIONS.get(state, "")) or [] if alarm.get("ActionsEnabled", True) else []
    return [action for action in actions if action.startswith("arn:aws:sns:")]


def subject(alarm: Mapping[str, Any], state: str, region: str) -> str:
    """The subject of the message."""
    return f'{state}: "{alarm["AlarmName"]}" in {region_name(region)}'[:LONGEST_SUBJECT]


def message(alarm: Mapping[str, Any], before: str, state: str, reason: str, account: str, region: str) -> Json:
    """The message about a change of the alarm's state from `before` to `state`."""
    about = {"AlarmRule": alarm["AlarmRule"]} if "AlarmRule" in alarm else {"Trigger": _trigger(alarm)}
    return {
        "AlarmName": alarm["AlarmName"],
        "AlarmDescription": alarm.get("AlarmDescription"),
        "AWSAccountId": account,
        "AlarmConfigurationUpdatedTimestamp": _text(alarm.get("AlarmConfigurationUpdatedTimestamp") or time.time()),
        "NewStateValue": state,
        "NewStateReason": reason,
        "StateChangeTime": _text(time.time()),
        "Region": region_name(region),
        "AlarmArn": alarm["AlarmArn"],
        "OldStateValue": before,
        **{name: alarm.get(name) or [] for name in ("OKActions", "AlarmActions", "InsufficientDataActions")},
        **about,
    }


@functools.cache
def region_name(region: str) -> str:
    """A region's long name: "US East (N. Virginia)"."""
    partitions = Loader().load_data("endpoints")["partitions"]
    names = {name: each["description"] for partition in partitions for name, each in partition["regions"].items()}
    return str(names.get(region, region))


def _trigger(alarm: Mapping[str, Any]) -> Json:
    evaluation = {
        "Period": alarm.get("Period"),
        "EvaluationPeriods": alarm.get("EvaluationPeriods"),
        **({"DatapointsToAlarm": alarm["DatapointsToAlarm"]} if alarm.get("DatapointsToAlarm") else {}),
        "ComparisonOperator": alarm.get("ComparisonOperator"),
        "Threshold": alarm.get("Threshold"),
        "TreatMissingData": alarm.get("TreatMissingData") or "missing",
        "EvaluateLowSampleCountPercentile": alarm.get("EvaluateLowSampleCountPercentile") or "",
    }
    if alarm.get("Metrics"):
        return {**evaluation, "Metrics": [_query(each) for each in alarm["Metrics"]]}
    statistic = (
        {"StatisticType": "ExtendedStatistic", "ExtendedStatistic": alarm["ExtendedStatistic"]}
        if alarm.get("ExtendedStatistic")
        else {"StatisticType": "Statistic", "Statistic": (alarm.get("Statistic") or "").upper()}
    )
    return {
        "MetricName": alarm.get("MetricName"),
        "Namespace": alarm.get("Namespace"),
        **statistic,
        "Unit": alarm.get("Unit"),
        "Dimensions": _dimensions(alarm.get("Dimensions") or ()),
        **evaluation,
    }


def _query(query: Mapping[str, Any]) -> Json:
    if "MetricStat" not in query:
        return dict(query)
    metric = query["MetricStat"]["Metric"]
    metric = {**metric, "Dimensions": _dimensions(metric.get("Dimensions") or ())}
    return {**query, "MetricStat": {**query["MetricStat"], "Metric": metric}}


def _dimensions(dimensions: Sequence[Mapping[str, str]]) -> list[Json]:
    return [{"value": each["Value"], "name": each["Name"]} for each in dimensions]


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "+0000")
