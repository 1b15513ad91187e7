"""CloudWatch alarms that notify the environment's topic."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

PART = "Alva::Part"
"""The metadata of an alarm: the part of the environment that it watches, which is a service's name, `alb`, `database`
or `cache`. The release manifest lists it."""

_PARTS = {"AWS/ApplicationELB": "alb", "AWS/WAFV2": "alb", "AWS/RDS": "database", "AWS/ElastiCache": "cache"}
"""CloudWatch's namespace -> the part that it measures, for alarms that no service owns."""


class AlarmFactory:
    """Creates the alarms of one scope. They have one-minute periods, and notify one topic in ALARM and in OK."""

    def __init__(self, scope: Construct, *, name_prefix: str, topic_arn: str, service: str | None = None) -> None:
        """`service` is the name of the service that the alarms watch; None for the environment's own."""
        self._scope = scope
        self._service = service
        self._name_prefix = name_prefix
        self._topic_arn = topic_arn

    def alarm(
        self,
        name: str,
        description: str,
        *,
        namespace: str,
        metric: str,
        dimensions: Mapping[str, str],
        threshold: float,
        statistic: str = "Average",
        comparison: str = "GreaterThanThreshold",
        minutes: int = 5,
        minutes_to_alarm: int | None = None,
        missing: str = "notBreaching",
    ) -> cloudwatch.CfnAlarm:
        """Create the alarm `<name_prefix>-<name>`: ALARM if `minutes_to_alarm` (default: all) of `minutes` breach.

        `statistic` is a CloudWatch statistic or a percentile such as p95. `missing` is TreatMissingData.
        """
        percentile = statistic.startswith("p")
        alarm = cloudwatch.CfnAlarm(
            self._scope,
            "".join(part.capitalize() for part in name.split("-")) + "Alarm",
            alarm_name=f"{self._name_prefix}-{name}",
            alarm_description=description,
            namespace=namespace,
            metric_name=metric,
            dimensions=[
                cloudwatch.CfnAlarm.DimensionProperty(name=key, value=value) for key, value in dimensions.items()
            ],
            statistic=None if percentile else statistic,
            extended_statistic=statistic if percentile else None,
            comparison_operator=comparison,
            threshold=threshold,
            period=60,
            evaluation_periods=minutes,
            datapoints_to_alarm=minutes_to_alarm,
            treat_missing_data=missing,
            alarm_actions=[self._topic_arn],
            ok_actions=[self._topic_arn],
        )
        alarm.add_metadata(PART, self._service or _PARTS[namespace])
        return alarm
