"""The environment's CloudWatch alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alva.aws import Aws, explained, pages
from alva.release.manifest import Manifest
from alva.release.verify import Finding, Verdict

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricAlarmTypeDef


def read_alarms(aws: Aws, manifest: Manifest, **filters: str) -> list[MetricAlarmTypeDef]:
    """Return the environment's alarms, or those that match DescribeAlarms' `filters`. Raises AlvaError."""
    prefix = manifest.alarm_prefix
    with explained("read the alarms"):
        return list(
            pages(aws.client("cloudwatch"), "describe_alarms", "MetricAlarms", AlarmNamePrefix=prefix, **filters)
        )


def alarms_are_quiet(aws: Aws, manifest: Manifest) -> Finding:
    """Whether no alarm of the environment is in the state ALARM.

    ECS ignores alarms that are already in ALARM when a deployment starts (AWS: "How CloudWatch alarms detect Amazon ECS
    deployment failures"): the release would not be protected.
    """
    alarms = read_alarms(aws, manifest)
    in_alarm = [
        f"{alarm['AlarmName']}: {alarm.get('StateReason', '')}" for alarm in alarms if alarm["StateValue"] == "ALARM"
    ]
    if in_alarm:
        return Verdict.FAIL, "; ".join(in_alarm)
    return (Verdict.OK, f"{len(alarms)} alarms") if alarms else (Verdict.SKIP, "there are no alarms")
