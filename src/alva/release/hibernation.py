"""Puts an environment to sleep and wakes it: stops all tasks and the database instance, and nothing else.

An SSM parameter stores the former desired counts before the first change: the next call finishes an interrupted sleep,
and waking restores the counts from before the first one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from alva.aws import Aws, error_code, explained, pages
from alva.errors import AlvaError, UsageError
from alva.release import rollout
from alva.release.alarms import read_alarms
from alva.release.lock import Holder
from alva.release.manifest import Manifest
from alva.release.times import utc_now

Line = Callable[[str], None]

TASKS_TIMEOUT_SECONDS = 900
DATABASE_TIMEOUT_SECONDS = 1800
"""RDS takes several minutes to stop or start an instance."""

ALARMS_AT_A_TIME = 100
"""The maximum of EnableAlarmActions and DisableAlarmActions."""

SUSPENDED = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")


@dataclass(frozen=True, kw_only=True)
class Asleep:
    """The state of an environment before it was put to sleep."""

    services: Mapping[str, int]
    """ECS service -> desired count."""
    databases: tuple[str, ...]
    by: str
    since: str

    def __str__(self) -> str:
        return f"asleep since {self.since}, by {self.by}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse the parameter's value."""
        values = json.loads(text)
        return cls(**{**values, "databases": tuple(values["databases"])})


class Hibernation:
    """Sleep and wake of one environment. The caller holds the environment's lock."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._aws = aws
        self._manifest = manifest
        self._parameter_name = manifest.parameters.asleep

    def state(self) -> Asleep | None:
        """Return the state from before the sleep, or None if the environment is awake."""
        with explained("read whether the environment is asleep"):
            try:
                return Asleep.from_text(self._aws.ssm.get_parameter(Name=self._parameter_name)["Parameter"]["Value"])
            except Exception as error:
                if error_code(error) == "ParameterNotFound":
                    return None
                raise

    def sleep(self, line: Line) -> Asleep:
        """Stop all tasks, then the database. Raises UsageError when there is nothing to stop."""
        asleep = self.state()
        if asleep is None:
            services = rollout.describe_services(self._aws, self._manifest)
            if not services:
                raise UsageError(
                    f"cannot put {self._manifest.environment} to sleep: nothing is deployed yet",
                    next_step="./alva status",
                )
            holder = Holder.this_process("sleep")
            asleep = Asleep(
                services={name: service["desiredCount"] for name, service in sorted(services.items())},
                databases=self._databases(),
                by=holder.user,
                since=utc_now(),
            )
            with explained("store the desired counts"):
                self._aws.ssm.put_parameter(
                    Name=self._parameter_name,
                    Value=json.dumps(asdict(asleep)),
                    Type="String",
                    Overwrite=True,
                    Description="Desired counts before ./alva sleep; ./alva wake restores them",
                )
        self._set_alarm_actions(enabled=False)
        self._suspend_scaling(asleep, suspended=True)
        for service in asleep.services:
            self._set_desired_count(service, 0)
        self._wait_for_tasks(dict.fromkeys(asleep.services, 0), line)
        # The database stops last: running tasks need it.
        for database in asleep.databases:
            self._set_database(database, line, running=False)
        return asleep

    def wake(self, line: Line) -> Asleep:
        """Start the database, then the former number of tasks. Raises UsageError when the environment is awake."""
        asleep = self.state()
        if asleep is None:
            raise UsageError(f"cannot wake {self._manifest.environment}: it is not asleep", next_step="./alva status")
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
        """Delete the stored state: the environment is awake or destroyed, and a later wake must not restore old
        counts.
        """
        with explained("delete the stored state of the sleep"):
            try:
                self._aws.ssm.delete_parameter(Name=self._parameter_name)
            except Exception as error:
                if error_code(error) != "ParameterNotFound":
                    raise

    def _databases(self) -> tuple[str, ...]:
        stack = self._manifest.stack("database").name
        with explained(f"find the database in stack {stack}"):
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
                    raise AlvaError(f"cannot find service {name}", next_step="./alva status")
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
            with explained(f"read database {name}"):
                status = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["DBInstanceStatus"]
            if status == wanted:
                return True
            # RDS refuses a start or stop during a backup or another change of state.
            if not asked and status == ("stopped" if running else "available"):
                with explained(f"{verb} database {name}"):
                    call: Any = rds.start_db_instance if running else rds.stop_db_instance
                    call(DBInstanceIdentifier=name)
                asked = True
            return None

        self._aws.poll.until(there, timeout_seconds=DATABASE_TIMEOUT_SECONDS, what=f"database {name} to {verb}")
        line(f"{name} is {wanted}")

    def _set_alarm_actions(self, *, enabled: bool) -> None:
        """Enable or disable the alarms' mails: without data, some alarms go off while the environment is asleep.

        https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DisableAlarmActions.html
        """
        cloudwatch = self._aws.client("cloudwatch")
        names = [alarm["AlarmName"] for alarm in read_alarms(self._aws, self._manifest)]
        with explained(f"{'enable' if enabled else 'disable'} the actions of the alarms"):
            change: Any = cloudwatch.enable_alarm_actions if enabled else cloudwatch.disable_alarm_actions
            for start in range(0, len(names), ALARMS_AT_A_TIME):
                change(AlarmNames=names[start : start + ALARMS_AT_A_TIME])

    def _suspend_scaling(self, asleep: Asleep, *, suspended: bool) -> None:
        """Suspend or resume Application Auto Scaling, which would start tasks up to the minimum."""
        scaling = self._aws.client("application-autoscaling")
        ids = [f"service/{self._manifest.cluster}/{service}" for service in asleep.services]
        with explained("read the scaling of the services"):
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
