"""AWS::CloudWatch::Alarm, also with metric math (`Metrics`), which MiniStack's PutMetricAlarm and type lack.

The record of a metric-math alarm has `Metrics` in place of MetricName, Namespace, Statistic, Period and Dimensions, as
PutMetricAlarm stores it; `alva.region.cloudwatch.alarms` evaluates both kinds.
"""

from __future__ import annotations

import time
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch

from alva.region.cloudformation.handler_failure import HandlerFailed, call
from alva.region.cloudformation.inputs import from_properties
from alva.region.cloudformation.physical_names import physical_name
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry
from alva.region.constraints import service_model

HONOURED = frozenset({
    "ActionsEnabled", "AlarmActions", "AlarmDescription", "AlarmName", "ComparisonOperator", "DatapointsToAlarm",
    "Dimensions", "EvaluationPeriods", "ExtendedStatistic", "InsufficientDataActions", "MetricName", "Metrics",
    "Namespace", "OKActions", "Period", "Statistic", "Tags", "Threshold", "TreatMissingData", "Unit",
})  # fmt: skip
WITHOUT_EFFECT = frozenset({
    "ActionConfiguration", "EvaluateLowSampleCountPercentile", "EvaluationCriteria", "EvaluationInterval",
    "EvaluationWindow", "ThresholdMetricId", "WarmUpConfiguration",
})  # fmt: skip
_OF_ONE_METRIC = ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Dimensions", "Unit")
_DEFAULTS: dict[str, Any] = {
    "AlarmDescription": "",
    "Statistic": "Average",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Dimensions": [],
    "TreatMissingData": "missing",
    "ActionsEnabled": True,
    "AlarmActions": [],
    "OKActions": [],
    "InsufficientDataActions": [],
}


async def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
    return await _put(properties.get("AlarmName") or physical_name(stack_name, logical_id), properties)


async def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return await _put(physical_id, new)


async def _put(name: str, properties: Properties) -> Provisioned:
    """Write the alarm's record and tags; an existing alarm keeps its state."""
    alarm = _settings(properties)
    existing = (await call("monitoring", "DescribeAlarms", {"AlarmNames": [name]}))["MetricAlarms"]
    now = int(time.time())
    state = {
        "StateValue": "INSUFFICIENT_DATA",
        "StateReason": "Unchecked: Initial alarm creation",
        "StateUpdatedTimestamp": now,
    }
    arn = f"arn:aws:cloudwatch:{get_region()}:{get_account_id()}:alarm:{name}"
    cloudwatch.cloudformation_put_metric_alarm(
        {
            **alarm,
            **{key: existing[0].get(key, value) if existing else value for key, value in state.items()},
            "AlarmName": name,
            "AlarmArn": arn,
            "AlarmConfigurationUpdatedTimestamp": now,
        }
    )
    cloudwatch.cloudformation_set_metric_alarm_tags(name, list(properties.get("Tags") or []))
    return name, {"Arn": arn}


def _settings(properties: Properties) -> dict[str, Any]:
    """The alarm's settings as PutMetricAlarm would store them. Raises HandlerFailed for what PutMetricAlarm refuses."""
    shape = service_model("cloudwatch").operation_model("PutMetricAlarm").input_shape
    assert shape is not None  # noqa: S101
    given = {key: value for key, value in properties.items() if key in HONOURED - {"Tags"}}
    settings: dict[str, Any] = from_properties(given, shape)
    required: tuple[str, ...] = ("ComparisonOperator", "Threshold")
    if metrics := settings.get("Metrics"):
        if both := [key for key in _OF_ONE_METRIC if key in settings]:
            raise HandlerFailed(f"Metrics list and {both[0]} cannot be specified at the same time", "InvalidRequest")
        for query in metrics:
            query.setdefault("ReturnData", True)
        if sum(query["ReturnData"] for query in metrics) != 1:
            raise HandlerFailed("Exactly one element of the metrics list must return data", "InvalidRequest")
        defaults = {key: value for key, value in _DEFAULTS.items() if key not in _OF_ONE_METRIC}
    else:
        required = ("MetricName", "Namespace", *required)
        defaults = {**_DEFAULTS, "ExtendedStatistic": None, "Unit": None}
    if missing := [key for key in required if key not in settings]:
        raise HandlerFailed(f"{missing[0]} is required for AWS::CloudWatch::Alarm", "InvalidRequest")
    return {**defaults, **settings}


def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    cloudwatch.cloudformation_delete_metric_alarm(physical_id, refuse_dependents=True)


def register(registry: Registry) -> None:
    registry.register(
        "AWS::CloudWatch::Alarm",
        Handlers(create=create, update=update, delete=delete),
    )
