"""AWS::CloudWatch::Alarm: MiniStack's type with metric math (`Metrics`), which MiniStack refuses.

The record of a metric-math alarm has `Metrics` in place of MetricName, Namespace, Statistic, Period and Dimensions, as
PutMetricAlarm stores it; `alva.region.cloudwatch.alarms` evaluates both kinds.
"""

from __future__ import annotations

from typing import Any

from ministack.services import cloudwatch
from ministack.services.cloudformation import provisioners

from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry

_OF_ONE_METRIC = ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Dimensions", "Unit")


def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
    name = properties.get("AlarmName") or provisioners._physical_name(stack_name, logical_id, max_len=255)
    return put(name, properties)


def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return put(physical_id, new)


def put(name: str, properties: Properties) -> Provisioned:
    """Write the alarm's record and tags; an existing alarm keeps its state."""
    alarm = record(name, properties)
    cloudwatch.cloudformation_put_metric_alarm(alarm)
    cloudwatch.cloudformation_set_metric_alarm_tags(name, list(properties.get("Tags") or []))
    return name, {"Arn": alarm["AlarmArn"]}


def record(name: str, properties: Properties) -> dict[str, Any]:
    """The alarm as PutMetricAlarm would store it. Raises HandlerFailed for what PutMetricAlarm refuses."""
    metrics = properties.get("Metrics")
    if not metrics:
        return dict(provisioners._cw_metric_alarm_record(name, properties))
    if both := [key for key in _OF_ONE_METRIC if key in properties]:
        raise HandlerFailed(f"Metrics list and {both[0]} cannot be specified at the same time", "InvalidRequest")
    returned = [query for query in metrics if provisioners._cfn_bool(query.get("ReturnData", True))]
    if len(returned) != 1:
        raise HandlerFailed("Exactly one element of the metrics list must return data", "InvalidRequest")
    as_one_metric = {**properties, "MetricName": "-", "Namespace": "-"}
    del as_one_metric["Metrics"]
    alarm = dict(provisioners._cw_metric_alarm_record(name, as_one_metric))
    for key in _OF_ONE_METRIC:
        alarm.pop(key, None)
    alarm["Metrics"] = [_query(query) for query in metrics]
    return alarm


def _query(query: dict[str, Any]) -> dict[str, Any]:
    """A MetricDataQuery with its numbers as numbers (templates may carry them as strings)."""
    result = {**query, "ReturnData": provisioners._cfn_bool(query.get("ReturnData", True))}
    if stat := query.get("MetricStat"):
        result["MetricStat"] = {**stat, "Period": int(stat["Period"])}
    if "Period" in query:
        result["Period"] = int(query["Period"])
    return result


def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    cloudwatch.cloudformation_delete_metric_alarm(physical_id, refuse_dependents=True)


def register(registry: Registry) -> None:
    registry.register(
        "AWS::CloudWatch::Alarm",
        Handlers(create=create, update=update, delete=delete, replacing_properties=("AlarmName",)),
    )
