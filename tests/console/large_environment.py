"""An environment of 40 services and 100,000 log lines, behind clients with boto3's responses.

Templates and manifest are synthesised. Tasks and log lines, which are too many for one machine, are generated here. The
console reads them with the same functions as in any other environment.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from alva.aws import Aws, Target
from alva.console.server import Console
from alva.console.session import Session
from alva.release.manifest import Manifest
from tests.cdk import synthesised

from .serving import serving

PROJECT = Path(__file__).resolve().parents[2]
SERVICES = 40
LOG_LINES = 100_000
LOG_MINUTES = 5
"""The age of the oldest line. The page reads the last 15 minutes, and a busy machine can be some minutes late."""
SECONDS_BETWEEN_READINGS = 1.0

Answers = Mapping[str, Callable[..., Any]]


class RecordedClient:
    """A boto3 client with some operations, each of which answers with one page."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return self._answers[operation]

    def get_paginator(self, operation: str) -> Any:
        return SimpleNamespace(paginate=lambda **arguments: iter([self._answers[operation](**arguments)]))


class LargeEnvironment(Aws):
    """40 running services, whose events change with each reading, and their log lines."""

    def __init__(self, manifest: Manifest, templates: Mapping[str, Any], *, log_lines: int = LOG_LINES) -> None:
        super().__init__(Target.local("http://127.0.0.1:9"))
        self.manifest = manifest
        self._templates = templates
        self._looks = itertools.count()
        self.described: list[str] = []
        """The task definitions that were described."""
        self._now = datetime.now(UTC)
        groups = [service.log_group for service in manifest.services]
        self._log_lines = {group: log_lines // len(groups) for group in groups}
        self._recorded: Mapping[str, Answers] = {
            "cloudformation": {"describe_stacks": self._describe_stacks, "get_template": self._get_template},
            "cloudwatch": {"describe_alarms": lambda **_: {"MetricAlarms": []}},
            "ecs": {
                "describe_services": self._describe_services,
                "describe_task_definition": self._describe_task_definition,
                "list_tasks": lambda cluster, serviceName: {"taskArns": [serviceName]},  # noqa: ARG005
                "describe_tasks": self._describe_tasks,
            },
            "elbv2": {"describe_target_health": self._describe_target_health},
            "logs": {"filter_log_events": self._filter_log_events},
            "ssm": {"get_parameter": self._get_parameter},
        }

    def client(self, service: str) -> Any:
        return RecordedClient(self._recorded[service])

    def _describe_stacks(self, StackName: str) -> Any:
        stack = {"StackName": StackName, "StackId": StackName, "StackStatus": "UPDATE_IN_PROGRESS"}
        return {"Stacks": [{**stack, "CreationTime": self._now}]}

    def _get_template(self, StackName: str, TemplateStage: str) -> Any:  # noqa: ARG002
        return {"TemplateBody": self._templates[StackName]}

    def _describe_services(self, cluster: str, services: list[str]) -> Any:  # noqa: ARG002
        return {"services": [self._service(name, next(self._looks)) for name in services]}

    def _service(self, name: str, reading: int) -> Any:
        deployment = {
            "status": "PRIMARY",
            "rolloutState": "COMPLETED",
            "createdAt": self._now,
            "desiredCount": 1,
            "runningCount": 1,
            "taskDefinition": f"arn:aws:ecs:us-east-1:000000000000:task-definition/{name}:1",
        }
        event = {"createdAt": self._now, "message": f"(service {name}) has reached a steady state. {reading}"}
        return {
            "serviceName": name,
            "status": "ACTIVE",
            "desiredCount": 1,
            "runningCount": 1,
            "taskDefinition": deployment["taskDefinition"],
            "deployments": [deployment],
            "events": [event],
            "loadBalancers": [{"targetGroupArn": name}],
        }

    def _describe_task_definition(self, taskDefinition: str) -> Any:
        self.described.append(taskDefinition)
        name = taskDefinition.rpartition("/")[2].partition(":")[0].removeprefix("alva-")
        image = f"registry/{name}@sha256:{name.encode().hex().ljust(64, '0')}"
        return {"taskDefinition": {"containerDefinitions": [{"name": name, "image": image}]}}

    def _describe_tasks(self, cluster: str, tasks: list[str]) -> Any:  # noqa: ARG002
        return {
            "tasks": [
                {
                    "taskArn": f"task/{name}",
                    "lastStatus": "RUNNING",
                    "healthStatus": "HEALTHY",
                    "startedAt": self._now,
                    "taskDefinitionArn": f"arn:aws:ecs:us-east-1:000000000000:task-definition/{name}:1",
                    "attachments": [{"details": [{"name": "privateIPv4Address", "value": name}]}],
                }
                for name in tasks
            ]
        }

    def _describe_target_health(self, TargetGroupArn: str) -> Any:
        target = {"Target": {"Id": TargetGroupArn}, "TargetHealth": {"State": "healthy"}}
        return {"TargetHealthDescriptions": [target]}

    def _get_parameter(self, Name: str) -> Any:
        raise ClientError({"Error": {"Code": "ParameterNotFound", "Message": Name}}, "GetParameter")

    def _filter_log_events(self, logGroupName: str, startTime: int, filterPattern: str) -> Any:  # noqa: ARG002
        count = self._log_lines.get(logGroupName, 0)
        first = self._now - timedelta(minutes=LOG_MINUTES)
        step = timedelta(minutes=LOG_MINUTES) / max(count, 1)
        name = logGroupName.rpartition("/")[2]
        times = (round((first + step * number).timestamp() * 1000) for number in range(count))
        return {
            "events": [
                {
                    "eventId": f"{name}-{number}",
                    "timestamp": time,
                    "logStreamName": f"alva/{name}/{name}",
                    "message": json.dumps(
                        {
                            "level": "INFO",
                            "service": name,
                            "message": f"GET /{name}/items/{number} 200",
                            "duration_ms": 7,
                        }
                    ),
                }
                for number, time in enumerate(times)
                if time >= startTime
            ]
        }


def synthesise(folder: Path) -> tuple[Manifest, dict[str, Any], dict[str, Any]]:
    """Return the manifest, its values and the templates of an environment of 40 services, synthesised in a folder."""
    from lib.config.environments import STAGING

    from tests.infrastructure.test_any_services import forty

    environment = forty(STAGING)
    assert len(environment.services) == SERVICES
    folder = synthesised(environment, folder)
    from lib.manifest import manifest  # It imports aws_cdk.

    values = manifest(environment, folder)
    templates = {each["name"]: json.loads((folder / each["template"]).read_text()) for each in values["stacks"]}
    return Manifest.from_values(values, folder), values, templates


@contextmanager
def console_of(aws: Aws, manifest: Manifest, values: Mapping[str, Any]) -> Iterator[Console]:
    """Serve a console of this environment during the block."""
    session = Session(
        aws,
        manifest,
        values,
        seconds_between_readings=SECONDS_BETWEEN_READINGS,
        chart_library=PROJECT / "node_modules" / "uplot" / "dist",
        extra={"target": "local"},
        read_savings=dict,
    )
    with serving(session) as console:
        yield console
