"""An environment put to sleep, and woken: no tasks, no database instance; everything else stays as it is.

What ran is remembered in an SSM parameter, written before anything is touched: a sleep that was interrupted is finished
by the next one, and waking brings back what ran before the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from alva.aws import Aws, error_code, explained, pages
from alva.errors import AlvaError, UsageError
from alva.release import rollout
from alva.release.lock import Holder
from alva.release.manifest import Manifest
from alva.release.times import utc_now

Line = Callable[[str], None]

TASKS_TIMEOUT_SECONDS = 900
DATABASE_TIMEOUT_SECONDS = 1800
"""RDS takes some minutes to stop or start an instance."""

ALARMS_AT_A_TIME = 100
"""What EnableAlarmActions and DisableAlarmActions take."""

SUSPENDED = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")


@dataclass(frozen=True, kw_only=True)
class Asleep:
    """What a sleeping environment ran before."""

    services: Mapping[str, int]
    """ECS service -> desired count."""
    databases: tuple[str, ...]
    by: str
    since: str

    def __str__(self) -> str:
        return f"asleep since {self.since}, by {self.by}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the parameter's value."""
        values = json.loads(text)
        return cls(**{**values, "databases": tuple(values["databases"])})


class Hibernation:
    """Sleep and wake, for one environment. The caller holds the environment's lock."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._aws = aws
        self._manifest = manifest
        self._parameter_name = f"/{manifest.prefix}/asleep"

    def state(self) -> Asleep | None:
        """What ran before, or None for an environment that is awake."""
        with explained("look whether the environment sleeps"):
            try:
                return Asleep.from_text(self._aws.ssm.get_parameter(Name=self._parameter_name)["Parameter"]["Value"])
            except Exception as error:
                if error_code(error) == "ParameterNotFound":
                    return None
                raise

    def sleep(self, line: Line) -> Asleep:
        """Stop every task, then the database. Raises UsageError when there is nothing that could sleep."""
        asleep = self.state()
        if asleep is None:
            services = rollout.describe_services(self._aws, self._manifest)
            if not services:
                raise UsageError(
                    f"cannot put {self._manifest.environment} to sleep: nothing runs there", next_step="./alva status"
                )
            holder = Holder.this_process("sleep")
            asleep = Asleep(
                services={name: service["desiredCount"] for name, service in sorted(services.items())},
                databases=self._databases(),
                by=holder.user,
                since=utc_now(),
            )
            with explained("remember what runs"):
                self._aws.ssm.put_parameter(
                    Name=self._parameter_name,
                    Value=json.dumps(asdict(asleep)),
                    Type="String",
                    Overwrite=True,
                    Description="What ran before ./alva sleep; ./alva wake brings it back",
                )
        self._set_alarm_actions(enabled=False)
        self._suspend_scaling(asleep, suspended=True)
        for service in asleep.services:
            self._set_desired_count(service, 0)
        self._wait_for_tasks(dict.fromkeys(asleep.services, 0), line)
        # The database last: what still runs would only fail without it.
        for database in asleep.databases:
            self._set_database(database, line, running=False)
        return asleep

    def wake(self, line: Line) -> Asleep:
        """Start the database, then as many tasks as ran before. Raises UsageError when it does not sleep."""
        asleep = self.state()
        if asleep is None:
            raise UsageError(f"cannot wake {self._manifest.environment}: it does not sleep", next_step="./alva status")
        for database in asleep.databases:
            self._set_database(database, line, running=True)
        for service, desired_count in asleep.services.items():
            self._set_desired_count(service, desired_count)
        self._wait_for_tasks(asleep.services, line)
        self._suspend_scaling(asleep, suspended=False)
        self._set_alarm_actions(enabled=True)
        self.forget()
        return asleep

    def forget(self) -> None:
        """Take the environment as awake: it is, or it is gone. A memory of what ran would bring that back one day."""
        with explained("forget that the environment slept"):
            try:
                self._aws.ssm.delete_parameter(Name=self._parameter_name)
            except Exception as error:
                if error_code(error) != "ParameterNotFound":
                    raise

    def _databases(self) -> tuple[str, ...]:
        stack = self._manifest.stack("database").name
        with explained(f"look for the database in stack {stack}"):
            resources = self._aws.cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
        return tuple(r["PhysicalResourceId"] for r in resources if r["ResourceType"] == "AWS::RDS::DBInstance")

    def _set_desired_count(self, service: str, count: int) -> None:
        with explained(f"set the desired count of {service} to {count}"):
            self._aws.ecs.update_service(cluster=self._manifest.cluster, service=service, desiredCount=count)

    def _wait_for_tasks(self, wanted: Mapping[str, int], line: Line) -> None:
        pending = dict(wanted)

        def all_there() -> bool | None:
            services = rollout.describe_services(self._aws, self._manifest)
            for name, count in list(pending.items()):
                found = services.get(name)
                if found is None:
                    raise AlvaError(f"cannot find service {name} any more", next_step="./alva status")
                settled = found["deployments"][0].get("rolloutState") != "IN_PROGRESS" or count == 0
                if found["runningCount"] == count and found["pendingCount"] == 0 and settled:
                    line(f"{name} runs {count} tasks")
                    del pending[name]
            return None if pending else True

        self._aws.poll.until(
            all_there, timeout_seconds=TASKS_TIMEOUT_SECONDS, what=f"the tasks of {', '.join(pending)}"
        )

    def _set_database(self, name: str, line: Line, *, running: bool) -> None:
        rds = self._aws.client("rds")
        wanted, verb = ("available", "start") if running else ("stopped", "stop")
        asked = False

        def there() -> bool | None:
            nonlocal asked
            with explained(f"look at database {name}"):
                status = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["DBInstanceStatus"]
            if status == wanted:
                return True
            # A database that is backing up, or still on its way from the other state, takes no order yet.
            if not asked and status == ("stopped" if running else "available"):
                with explained(f"{verb} database {name}"):
                    call: Any = rds.start_db_instance if running else rds.stop_db_instance
                    call(DBInstanceIdentifier=name)
                asked = True
            return None

        self._aws.poll.until(there, timeout_seconds=DATABASE_TIMEOUT_SECONDS, what=f"database {name} to {verb}")
        line(f"{name} is {wanted}")

    def _set_alarm_actions(self, *, enabled: bool) -> None:
        """Let the environment's alarms send mails or not: asleep, those that miss data ring.

        https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DisableAlarmActions.html
        """
        cloudwatch = self._aws.client("cloudwatch")
        with explained(f"{'enable' if enabled else 'disable'} the actions of the alarms"):
            names = [
                alarm["AlarmName"]
                for alarm in pages(
                    cloudwatch, "describe_alarms", "MetricAlarms", AlarmNamePrefix=f"{self._manifest.prefix}-"
                )
            ]
            change: Any = cloudwatch.enable_alarm_actions if enabled else cloudwatch.disable_alarm_actions
            for start in range(0, len(names), ALARMS_AT_A_TIME):
                change(AlarmNames=names[start : start + ALARMS_AT_A_TIME])

    def _suspend_scaling(self, asleep: Asleep, *, suspended: bool) -> None:
        """Have Application Auto Scaling leave the services alone: it would bring tasks back up to the minimum."""
        scaling = self._aws.client("application-autoscaling")
        ids = [f"service/{self._manifest.cluster}/{service}" for service in asleep.services]
        with explained("look for scaling of the services"):
            targets = list(
                pages(scaling, "describe_scalable_targets", "ScalableTargets", ServiceNamespace="ecs", ResourceIds=ids)
            )
        for target in targets:
            with explained(f"{'suspend' if suspended else 'resume'} the scaling of {target['ResourceId']}"):
                scaling.register_scalable_target(
                    ServiceNamespace="ecs",
                    ResourceId=target["ResourceId"],
                    ScalableDimension=target["ScalableDimension"],
                    SuspendedState=dict.fromkeys(SUSPENDED, suspended),
                )
