"""Deployment alarms: which of a deployment's CloudWatch alarms are in ALARM.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-alarm-failure.html
"""

from __future__ import annotations

import logging

from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.ecs.model import ServiceDeployment

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0


class DeploymentAlarms:
    """Watches the alarms of deployments with deployment alarms."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._seen: set[str] = set()
        self._in_alarm: dict[str, tuple[str, ...]] = {}

    def in_alarm(self, record: ServiceDeployment | None) -> tuple[str, ...]:
        """The names of this deployment's alarms in ALARM; empty when it has no alarms."""
        if record is None or record.alarms_status != "MONITORING" or record.rollback is not None:
            return ()
        return self._in_alarm.get(record.arn, ())

    async def refresh(self, records: list[ServiceDeployment]) -> bool:
        """Read the alarms of running deployments from CloudWatch; True when any is in ALARM.

        As on AWS, alarms are not monitored for a deployment if one is in ALARM when it starts.
        """
        watched = [r for r in records if r.alarms_status == "MONITORING" and r.rollback is None]
        self._in_alarm = {r.arn: await self._read_in_alarm(r) for r in watched}
        for record in watched:
            if record.arn not in self._seen and self._in_alarm[record.arn]:
                record.alarms_status = "DISABLED"
        self._seen = {r.arn for r in watched}
        return any(self._in_alarm.values())

    async def _read_in_alarm(self, record: ServiceDeployment) -> tuple[str, ...]:
        names = record.deployment_configuration["alarms"]["alarmNames"]
        try:
            answer = await self._control_plane.call(
                "monitoring", "DescribeAlarms", AlarmNames=names, StateValue="ALARM",
                AlarmTypes=["MetricAlarm", "CompositeAlarm"],
            )  # fmt: skip
        except ServiceError as error:
            logger.warning("cannot read the alarms of %s: %s", record.arn, error)
            return ()
        found = {each["AlarmName"] for key in ("MetricAlarms", "CompositeAlarms") for each in answer.get(key, ())}
        return tuple(name for name in names if name in found)
