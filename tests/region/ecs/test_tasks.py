"""One task at a time, with real processes."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.region_network import in_region, is_enforced
from tests.waiting import until

from .workbench import SERVER, Workbench

pytestmark = pytest.mark.region

REPORT = """
import json, os, sys
print(json.dumps({"environment": dict(os.environ), "argv": sys.argv[1:], "uid": os.getuid()}))
sys.exit(int(os.environ.get("CODE", "0")))
"""

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("started", flush=True)
time.sleep(600)
"""

SLEEPER = """
import time
print("started", flush=True)
time.sleep(600)
"""

PINGER = """
import os, pathlib, sys
shared = pathlib.Path("/tmp/mark")
if sys.argv[1] == "write":
    shared.write_text("written")
else:
    print(shared.read_text())
    try:
        pathlib.Path("/app/x").write_text("x")
    except OSError as error:
        print(error.strerror)
"""


def test_task_runs_to_its_end_with_its_exit_code_and_its_output_in_the_logs(workbench: Workbench) -> None:
    definition = workbench.task_definition(
        "report", {"name": "main", "image": workbench.image(REPORT), "environment": [{"name": "CODE", "value": "3"}]}
    )
    task = workbench.stopped(workbench.run(definition, startedBy="test"))
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["containers"][0]["exitCode"] == 3
    assert task["startedBy"] == "test"
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    assert details["privateIPv4Address"].startswith(in_region(workbench.config, "10.0.10.0").removesuffix("0.0"))
    assert details["subnetId"] in workbench.subnets
    report = json.loads(workbench.log_lines(task["taskArn"], "main")[0])
    # HOST is set only with loopback addresses.
    enforced = is_enforced(workbench.config)
    assert report["environment"]["HOST"] == ("0.0.0.0" if enforced else details["privateIPv4Address"])  # noqa: S104
    assert report["uid"] == 1000


def test_every_state_of_a_task_is_sent_to_eventbridge(workbench: Workbench) -> None:
    sqs, events = workbench.client("sqs"), workbench.client("events")
    queue = sqs.create_queue(QueueName="tasks-told")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {
        "source": ["aws.ecs"],
        "detail-type": ["ECS Task State Change"],
        "detail": {"group": ["family:told"], "desiredStatus": ["STOPPED"]},
    }
    events.put_rule(Name="tasks", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="tasks", Targets=[{"Id": "queue", "Arn": arn}])
    definition = workbench.task_definition(
        "told", {"name": "main", "image": workbench.image(REPORT), "environment": [{"name": "CODE", "value": "3"}]}
    )
    task = workbench.stopped(workbench.run(definition))
    told: list[dict[str, Any]] = []

    def all_published() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            told.append(json.loads(message["Body"]))
        return any(event["detail"]["lastStatus"] == "STOPPED" for event in told)

    until(all_published)
    statuses = [event["detail"]["lastStatus"] for event in sorted(told, key=lambda event: event["detail"]["version"])]
    assert statuses == ["RUNNING", "DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED"]
    (last,) = [event for event in told if event["detail"]["lastStatus"] == "STOPPED"]
    assert last["resources"] == [task["taskArn"]]
    assert last["detail"]["stopCode"] == "EssentialContainerExited"
    assert last["detail"]["containers"][0]["exitCode"] == 3
    assert last["detail"]["attachments"][0]["type"] == "eni"
    assert datetime.fromisoformat(last["detail"]["stoppedAt"]).timestamp() == pytest.approx(
        task["stoppedAt"].timestamp(), abs=0.01
    )


def test_override_changes_command_and_environment_of_one_run(workbench: Workbench) -> None:
    definition = workbench.task_definition(
        "overridden",
        {
            "name": "main",
            "image": workbench.image(REPORT),
            "environment": [{"name": "GREETING", "value": "definition"}],
        },
    )
    override = {
        "name": "main",
        "command": ["/app/main.py", "with", "arguments"],
        "environment": [{"name": "GREETING", "value": "override"}],
    }
    task = workbench.stopped(workbench.run(definition, overrides={"containerOverrides": [override]}))
    report = json.loads(workbench.log_lines(task["taskArn"], "main")[0])
    assert report["argv"] == ["with", "arguments"]
    assert report["environment"]["GREETING"] == "override"
    assert task["overrides"]["containerOverrides"] == [override]


def test_secrets_reach_the_environment_whole_or_by_key(workbench: Workbench) -> None:
    secrets = workbench.client("secretsmanager")
    pem = "-----BEGIN KEY-----\nline\n-----END KEY-----\n"
    whole = secrets.create_secret(Name="whole", SecretString=pem)["ARN"]
    keyed = secrets.create_secret(Name="keyed", SecretString=json.dumps({"username": "u", "password": "p:%/@"}))["ARN"]
    definition = workbench.task_definition(
        "secretive",
        {
            "name": "main",
            "image": workbench.image(REPORT),
            "secrets": [
                {"name": "KEY", "valueFrom": whole},
                {"name": "PASSWORD", "valueFrom": f"{keyed}:password::"},
            ],
        },
    )
    task = workbench.stopped(workbench.run(definition))
    environment = json.loads(workbench.log_lines(task["taskArn"], "main")[0])["environment"]
    assert environment["KEY"] == pem
    assert environment["PASSWORD"] == "p:%/@"


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [
        (
            "absent-AbCdEf",
            "failed to fetch secret {arn} from secrets manager: "
            "ResourceNotFoundException: Secrets Manager can't find the specified secret.",
        ),
        (
            "",
            "failed to fetch secret {arn} from secrets manager: ResourceNotFoundException: "
            "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT",
        ),
        (None, "retrieved secret from Secrets Manager did not contain json key port"),
    ],
    ids=["secret", "value", "key"],
)
def test_missing_secret_value_or_key_stops_the_task_in_awss_words(
    workbench: Workbench, suffix: str | None, reason: str
) -> None:
    if suffix == "":
        arn = value_from = workbench.client("secretsmanager").create_secret(Name="valueless")["ARN"]
    elif suffix is None:
        arn = workbench.client("secretsmanager").create_secret(Name="portless", SecretString="{}")["ARN"]
        value_from = f"{arn}:port::"
    else:
        arn = value_from = f"arn:aws:secretsmanager:us-east-1:{workbench.config.account_id}:secret:{suffix}"
    definition = workbench.task_definition(
        "lacking",
        {"name": "main", "image": workbench.image(REPORT), "secrets": [{"name": "X", "valueFrom": value_from}]},
    )
    task = workbench.stopped(workbench.run(definition))
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"] == (
        "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
        "unable to retrieve secret from asm: service call has been retried 1 time(s): " + reason.format(arn=arn)
    )
    assert "exitCode" not in task["containers"][0]


def test_unknown_digest_cannot_be_pulled(workbench: Workbench) -> None:
    image = workbench.image(REPORT).rpartition("@")[0] + "@sha256:" + "1" * 64
    task = workbench.stopped(workbench.run(workbench.task_definition("unknown", {"name": "main", "image": image})))
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"] == (
        "CannotPullContainerError: pull image manifest has been retried 1 time(s): "
        f"failed to resolve ref {image}: {image}: not found"
    )
    assert task["containers"][0]["reason"] == task["stoppedReason"]


def test_missing_log_group_stops_the_task(workbench: Workbench) -> None:
    logs = {**workbench.logs, "options": {**workbench.logs["options"], "awslogs-group": "/absent"}}
    definition = workbench.task_definition(
        "logless", {"name": "main", "image": workbench.image(REPORT), "logConfiguration": logs}
    )
    task = workbench.stopped(workbench.run(definition))
    assert task["stoppedReason"].startswith("ResourceInitializationError: failed to validate logger args: ")
    assert "ResourceNotFoundException: The specified log group does not exist" in task["stoppedReason"]


def test_missing_program_cannot_be_started(workbench: Workbench) -> None:
    definition = workbench.task_definition(
        "absent", {"name": "main", "image": workbench.image(REPORT), "entryPoint": ["/app/absent"]}
    )
    task = workbench.stopped(workbench.run(definition))
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("CannotStartContainerError: ")
    assert "/app/absent" in task["stoppedReason"]


def test_ignored_sigterm_ends_in_sigkill_after_the_stop_timeout(workbench: Workbench) -> None:
    definition = workbench.task_definition(
        "stubborn", {"name": "main", "image": workbench.image(STUBBORN), "stopTimeout": 2}
    )
    arn = workbench.run(definition)
    workbench.running(arn)
    until(lambda: workbench.log_lines(arn, "main"))
    workbench.ecs.stop_task(cluster=workbench.cluster, task=arn, reason="enough")
    task = workbench.stopped(arn)
    assert task["containers"][0]["exitCode"] == 137
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "enough")
    assert 2 <= (task["executionStoppedAt"] - task["stoppingAt"]).total_seconds() < 20


@pytest.mark.parametrize(("has_init", "exit_code", "stop_timeout"), [(False, 137, 1), (True, 143, 30)])
def test_program_without_a_handler_for_sigterm_needs_an_init_to_end_by_it(
    workbench: Workbench, has_init: bool, exit_code: int, stop_timeout: int
) -> None:
    """Process 1 has no default action for SIGTERM: as in a container, without a handler it ends by SIGKILL."""
    definition = workbench.task_definition(
        "sleeper",
        {
            "name": "main",
            "image": workbench.image(SLEEPER),
            "stopTimeout": stop_timeout,
            "linuxParameters": {"initProcessEnabled": has_init},
        },
    )
    arn = workbench.run(definition)
    until(lambda: workbench.log_lines(arn, "main"))
    workbench.ecs.stop_task(cluster=workbench.cluster, task=arn)
    assert workbench.stopped(arn)["containers"][0]["exitCode"] == exit_code


def test_init_reports_a_missing_program(workbench: Workbench) -> None:
    definition = workbench.task_definition(
        "absent-below-init",
        {
            "name": "main",
            "image": workbench.image(REPORT),
            "entryPoint": ["/app/absent"],
            "linuxParameters": {"initProcessEnabled": True},
        },
    )
    task = workbench.stopped(workbench.run(definition))
    assert (task["stopCode"], task["containers"][0]["exitCode"]) == ("EssentialContainerExited", 127)
    assert workbench.log_lines(task["taskArn"], "main") == [
        "[FATAL tini (7)] exec /app/absent failed: No such file or directory"
    ]


def test_task_that_is_stopped_before_it_runs_does_not_run(workbench: Workbench) -> None:
    definition = workbench.task_definition("stillborn", {"name": "main", "image": workbench.image(SLEEPER)})
    arn = workbench.run(definition)
    workbench.ecs.stop_task(cluster=workbench.cluster, task=arn, reason="changed my mind")
    task = workbench.stopped(arn)
    assert task["stoppedReason"] == "changed my mind"


def test_containers_start_in_the_order_of_their_dependencies_and_share_a_volume(workbench: Workbench) -> None:
    image = workbench.image(PINGER, "pinger")
    mount = {"mountPoints": [{"sourceVolume": "shared", "containerPath": "/tmp"}]}  # noqa: S108
    definition = workbench.task_definition(
        "ordered",
        {
            "name": "reader",
            "image": image,
            "command": ["/app/main.py", "read"],
            "dependsOn": [{"containerName": "writer", "condition": "SUCCESS"}],
            "readonlyRootFilesystem": True,
            **mount,
        },
        {"name": "writer", "image": image, "command": ["/app/main.py", "write"], "essential": False, **mount},
        volumes=[{"name": "shared"}],
    )
    task = workbench.stopped(workbench.run(definition))
    assert {c["name"]: c["exitCode"] for c in task["containers"]} == {"reader": 0, "writer": 0}
    assert workbench.log_lines(task["taskArn"], "reader") == ["written", "Read-only file system"]


def test_volume_is_roots_unless_the_image_declares_it(workbench: Workbench) -> None:
    script = "import os; print(*(os.access(path, os.W_OK) for path in ('/tmp', '/data', '/declared')))"
    names = ("tmp", "data", "declared")
    definition = workbench.task_definition(
        "volumes",
        {
            "name": "main",
            "image": workbench.image(script, volumes=("/tmp", "/declared")),  # noqa: S108
            "readonlyRootFilesystem": True,
            "mountPoints": [{"sourceVolume": name, "containerPath": f"/{name}"} for name in names],
        },
        volumes=[{"name": name} for name in names],
    )
    task = workbench.stopped(workbench.run(definition))
    assert workbench.log_lines(task["taskArn"], "main") == ["True False False"]


def test_dependency_that_fails_stops_the_task(workbench: Workbench) -> None:
    image = workbench.image(REPORT)
    definition = workbench.task_definition(
        "dependent",
        {"name": "main", "image": image, "dependsOn": [{"containerName": "first", "condition": "SUCCESS"}]},
        {"name": "first", "image": image, "essential": False, "environment": [{"name": "CODE", "value": "1"}]},
    )
    task = workbench.stopped(workbench.run(definition))
    assert task["stopCode"] == "TaskFailedToStart"
    assert "first" in task["stoppedReason"]
    assert {c["name"]: c.get("exitCode") for c in task["containers"]} == {"main": None, "first": 1}


def test_end_of_an_essential_container_stops_the_others(workbench: Workbench) -> None:
    definition = workbench.task_definition(
        "pair",
        {
            "name": "main",
            "image": workbench.image(REPORT),
            "dependsOn": [{"containerName": "side", "condition": "START"}],
        },
        {"name": "side", "image": workbench.image(STUBBORN), "stopTimeout": 1, "essential": False},
    )
    task = workbench.stopped(workbench.run(definition))
    assert {c["name"]: c["exitCode"] for c in task["containers"]} == {"main": 0, "side": 137}


@pytest.mark.parametrize("timing", [{"interval": 5}, {"interval": 300, "startPeriod": 300}], ids=str)
def test_container_health_check_runs_in_the_containers_view(workbench: Workbench, timing: dict[str, int]) -> None:
    check = (
        "import os, urllib.request; "
        "urllib.request.urlopen(f\"http://{os.environ['HOST']}:{os.environ['PORT']}/\", timeout=1)"
    )
    definition = workbench.task_definition(
        "checked",
        {
            "name": "main",
            "image": workbench.image(SERVER),
            "environment": [{"name": "PORT", "value": "3000"}],
            "healthCheck": {"command": ["CMD", "python3", "-c", check], "timeout": 2, "retries": 1, **timing},
        },
    )
    arn = workbench.run(definition)
    until(lambda: workbench.task(arn)["healthStatus"] == "HEALTHY")
    workbench.ecs.stop_task(cluster=workbench.cluster, task=arn)
    assert workbench.stopped(arn)["containers"][0]["exitCode"] == 0


def test_health_is_unknown_in_the_start_period_until_a_check_passes(workbench: Workbench) -> None:
    check = {"command": ["CMD", "false"], "timeout": 2, "retries": 1, "interval": 300, "startPeriod": 300}
    definition = workbench.task_definition(
        "unchecked",
        {
            "name": "main",
            "image": workbench.image(SERVER),
            "environment": [{"name": "PORT", "value": "3000"}],
            "healthCheck": check,
            "stopTimeout": 2,
        },
    )
    arn = workbench.run(definition)
    assert workbench.running(arn)["healthStatus"] == "UNKNOWN"
    workbench.ecs.stop_task(cluster=workbench.cluster, task=arn)
    workbench.stopped(arn)


def test_list_tasks_filters_by_family_starter_and_status(workbench: Workbench) -> None:
    definition = workbench.task_definition("listed", {"name": "main", "image": workbench.image(REPORT)})
    first = workbench.run(definition, startedBy="one")
    second = workbench.run(definition, startedBy="two")
    for arn in (first, second):
        workbench.stopped(arn)

    def listed(**filters: object) -> list[str]:
        answer = workbench.ecs.list_tasks(cluster=workbench.cluster, desiredStatus="STOPPED", **filters)
        return sorted(answer["taskArns"])

    assert listed(family="listed") == sorted([first, second])
    assert listed(family="listed", startedBy="two") == [second]
    page = workbench.ecs.list_tasks(cluster=workbench.cluster, desiredStatus="STOPPED", family="listed", maxResults=1)
    rest = listed(family="listed", nextToken=page["nextToken"])
    assert sorted(page["taskArns"] + rest) == sorted([first, second])


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"taskDefinition": "never-registered"}, "ClientException", "TaskDefinition not found."),
        ({"cluster": "absent"}, "ClusterNotFoundException", "Cluster not found."),
        ({"count": 11}, "InvalidParameterException", "count must be between 1 and 10."),
        ({"launchType": "EC2"}, "UnsupportedFeatureException", "does not honour launchType = 'EC2'"),
        ({"launchType": "MOON"}, "InvalidParameterException", "Member must satisfy enum value set"),
        (
            {"networkConfiguration": {}},
            "InvalidParameterException",
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        ),
        (
            {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-0"]}}},
            "InvalidParameterException",
            "Error retrieving subnet information for ['subnet-0']",
        ),
        (
            {"overrides": {"containerOverrides": [{"name": "absent"}]}},
            "InvalidParameterException",
            "Override for container named absent is not a container in the TaskDefinition.",
        ),
        (
            {"overrides": {"containerOverrides": [{"name": "main", "command": ["x" * 8140]}]}},
            "InvalidParameterException",
            "Container Overrides length must be at most 8192",
        ),
    ],
)
def test_run_task_is_refused_as_on_aws(
    workbench: Workbench, change: dict[str, object], code: str, message: str
) -> None:
    definition = workbench.task_definition("refused", {"name": "main", "image": "x"})
    request = {
        "cluster": workbench.cluster,
        "taskDefinition": definition,
        "launchType": "FARGATE",
        "networkConfiguration": workbench.network,
    }
    with pytest.raises(ClientError) as raised:
        workbench.ecs.run_task(**{**request, **change})
    assert raised.value.response["Error"]["Code"] == code
    assert message in raised.value.response["Error"]["Message"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"restartPolicy": {"enabled": True}}, "containerDefinitions.restartPolicy"),
        ({"privileged": True}, "containerDefinitions.privileged"),
        ({"logConfiguration": {"logDriver": "splunk"}}, "containerDefinitions.logConfiguration.logDriver = 'splunk'"),
        ({"environmentFiles": [{"type": "s3", "value": "x"}]}, "containerDefinitions.environmentFiles"),
    ],
)
def test_container_setting_without_effect_here_is_refused_by_name(
    workbench: Workbench, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ClientError) as raised:
        workbench.task_definition("refused", {"name": "main", "image": "x", **change})
    assert raised.value.response["Error"]["Code"] == "UnsupportedFeatureException"
    assert message in raised.value.response["Error"]["Message"]


def test_unsupported_actions_are_refused(workbench: Workbench) -> None:
    with pytest.raises(ClientError, match=r"UnsupportedFeatureException.*UpdateTaskProtection"):
        workbench.ecs.update_task_protection(cluster=workbench.cluster, tasks=["x"], protectionEnabled=True)
    with pytest.raises(ClientError, match=r"UnsupportedFeatureException.*CreateTaskSet"):
        workbench.ecs.create_task_set(cluster="c", service="s", taskDefinition="t")
