"""The parts of ECS that are pure functions."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ministack.core.responses import request_scope

from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.inputs import from_properties
from alva.region.cloudwatch import metrics as stored
from alva.region.constraints import service_model
from alva.region.ecs import cloudformation, dependencies, metrics, support
from alva.region.ecs.api import Api
from alva.region.ecs.calls import clusters, task_definitions
from alva.region.ecs.containers import HealthCheck
from alva.region.ecs.errors import EcsError
from alva.region.ecs.model import Container, Health, Service, ServiceDeployment, Task, TaskStatus, from_state
from alva.region.ecs.paging import page
from alva.region.ecs.pull import SecretReference
from alva.region.ecs.state import State
from alva.region.encoded_state import decode, encode

SECRET = "arn:aws:secretsmanager:us-east-1:000000000000:secret:database-AbCdEf"


@pytest.mark.parametrize(
    ("value_from", "reference"),
    [
        (SECRET, SecretReference("secretsmanager", SECRET)),
        (f"{SECRET}:password::", SecretReference("secretsmanager", SECRET, "password")),
        (f"{SECRET}::AWSPREVIOUS:", SecretReference("secretsmanager", SECRET, "", "AWSPREVIOUS")),
        (f"{SECRET}:key:AWSCURRENT:v1", SecretReference("secretsmanager", SECRET, "key", "AWSCURRENT", "v1")),
        ("arn:aws:ssm:us-east-1:000000000000:parameter/a/b", SecretReference("ssm", "/a/b")),
        ("/a/b", SecretReference("ssm", "/a/b")),
    ],
)
def test_value_from_names_a_secret_or_a_parameter(value_from: str, reference: SecretReference) -> None:
    assert SecretReference.parse(value_from) == reference


def test_health_check_has_dockers_forms_and_the_apis_defaults() -> None:
    assert HealthCheck.parse({"command": ["CMD", "python", "-m", "check"]}) == HealthCheck(
        argv=("python", "-m", "check"), interval_seconds=30, timeout_seconds=5, retries=3, start_period_seconds=0
    )
    shell = HealthCheck.parse({"command": ["CMD-SHELL", "exit 0"]})
    assert shell is not None
    assert shell.argv == ("/bin/sh", "-c", "exit 0")
    assert HealthCheck.parse({"command": ["NONE"]}) is None
    assert HealthCheck.parse(None) is None


def container(name: str, status: str, exit_code: int | None = None, health: Health = Health.UNKNOWN) -> Container:
    return Container(name=name, arn=name, image="x", last_status=status, exit_code=exit_code, health=health)


@pytest.mark.parametrize(
    ("condition", "other", "satisfied", "impossible"),
    [
        ("START", container("b", "PENDING"), False, False),
        ("START", container("b", "RUNNING"), True, False),
        ("HEALTHY", container("b", "RUNNING"), False, False),
        ("HEALTHY", container("b", "RUNNING", health=Health.HEALTHY), True, False),
        ("HEALTHY", container("b", "RUNNING", health=Health.UNHEALTHY), False, True),
        ("COMPLETE", container("b", "STOPPED", 1), True, False),
        ("SUCCESS", container("b", "STOPPED", 0), True, False),
        ("SUCCESS", container("b", "STOPPED", 1), False, True),
    ],
)
def test_dependency_conditions(condition: str, other: Container, satisfied: bool, impossible: bool) -> None:
    assert dependencies.is_satisfied(condition, other) is satisfied
    assert dependencies.is_impossible(condition, other) is impossible


def waits_for(name: str, *others: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "dependsOn": [{"containerName": o, "condition": "HEALTHY"} for o in others], **more}


def test_containers_stop_before_those_they_depend_on() -> None:
    assert dependencies.stop_order([waits_for("a", "b"), waits_for("b", "c"), waits_for("c")]) == [["a"], ["b"], ["c"]]
    with pytest.raises(ValueError, match="cycle"):
        dependencies.stop_order([waits_for("a", "b"), waits_for("b", "a")])


def test_waiting_ends_at_the_start_timeout_of_the_dependency() -> None:
    definitions = [waits_for("a", "b"), waits_for("b", startTimeout=20)]
    records = {"a": container("a", "PENDING"), "b": container("b", "RUNNING")}
    assert dependencies.deadlines(definitions, records, {"b": 100.0}) == [(120.0, "a", "b")]
    assert dependencies.deadlines(definitions, records, {}) == []


def test_records_survive_conversion_to_json_and_back() -> None:
    task = Task(
        id="1",
        arn="t",
        cluster_arn="c",
        task_definition_arn="d",
        group="g",
        started_by=None,
        containers=[container("a", "RUNNING", health=Health.HEALTHY)],
        created_at=1.5,
        subnets=["s"],
        security_groups=[],
        last_status=TaskStatus.RUNNING,
    )
    restored = from_state(Task, decode(encode(task)))
    assert restored == task
    assert restored.last_status is TaskStatus.RUNNING
    assert restored.containers[0].health is Health.HEALTHY


def test_state_of_an_earlier_version_is_restored_without_its_former_fields() -> None:
    deployment = ServiceDeployment(
        arn="a", deployment_id="d", created_at=1.0, updated_at=2.0, target_revision_arn="r", source_revision_arns=[],
        deployment_configuration={},
    )  # fmt: skip
    former = {**decode(encode(deployment)), "rollback_deployment_id": "ecs-svc/1"}
    assert from_state(ServiceDeployment, former) == deployment


def test_state_of_a_newer_version_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown fields colour"):
        from_state(Service, {"name": "x", "colour": "red"})


def test_pages_cover_everything_once() -> None:
    items = [str(n) for n in range(7)]
    seen: list[str] = []
    token: str | None = None
    while True:
        answer = page("items", items, {"maxResults": 3, "nextToken": token})
        seen += answer["items"]
        token = answer.get("nextToken")
        if token is None:
            break
    assert seen == items
    with pytest.raises(EcsError, match="Invalid token"):
        page("items", items, {"nextToken": "%%"})


def test_cloudformation_properties_become_the_apis_members() -> None:
    shape = service_model("ecs").operation_model("RegisterTaskDefinition").input_shape
    assert shape is not None
    properties = {
        "Family": "f",
        "ContainerDefinitions": [
            {
                "Name": "c",
                "Image": "i",
                "StopTimeout": "2",
                "ReadonlyRootFilesystem": "true",
                "DockerLabels": {"Some.Key": "v"},
                "Secrets": [{"Name": "S", "ValueFrom": "x"}],
            }
        ],
        "Volumes": [{"Name": "v", "EFSVolumeConfiguration": {"FilesystemId": "fs"}}],
    }
    assert from_properties(properties, shape) == {
        "family": "f",
        "containerDefinitions": [
            {
                "name": "c",
                "image": "i",
                "stopTimeout": 2,
                "readonlyRootFilesystem": True,
                "dockerLabels": {"Some.Key": "v"},
                "secrets": [{"name": "S", "valueFrom": "x"}],
            }
        ],
        "volumes": [{"name": "v", "efsVolumeConfiguration": {"fileSystemId": "fs"}}],
    }


def test_honoured_members_exist_in_awss_model() -> None:
    def check(honoured: Any, shape: Any, path: str) -> None:
        while shape.type_name == "list":
            shape = shape.member
        if shape.type_name == "map":
            return
        for member, rule in honoured.items():
            assert member in shape.members, f"{path}.{member}"
            if isinstance(rule, dict):
                check(rule, shape.members[member], f"{path}.{member}")

    for action, honoured in support.ACTIONS.items():
        check(honoured, service_model("ecs").operation_model(action).input_shape, action)


def test_actions_honoured_with_all_members_have_the_listed_members() -> None:
    """A member that a new version of AWS's model adds is not honoured: then list the action's members."""
    known = """
        DeleteCluster: cluster
        DeleteService: cluster force service
        DeleteTaskDefinitions: taskDefinitions
        DeregisterTaskDefinition: taskDefinition
        DescribeClusters: clusters include
        DescribeServiceDeployments: serviceDeploymentArns
        DescribeServiceRevisions: serviceRevisionArns
        DescribeServices: cluster include services
        DescribeTaskDefinition: include taskDefinition
        DescribeTasks: cluster include tasks
        ExecuteCommand: cluster command container interactive task
        ListClusters: maxResults nextToken
        ListServiceDeployments: cluster createdAt maxResults nextToken service status
        ListTagsForResource: resourceArn
        ListTaskDefinitionFamilies: familyPrefix maxResults nextToken status
        ListTaskDefinitions: familyPrefix maxResults nextToken sort status
        StopServiceDeployment: serviceDeploymentArn stopType
        StopTask: cluster reason task
        UntagResource: resourceArn tagKeys
    """
    found = [f"{action}: {' '.join(sorted(support.ACTIONS[action]))}" for action in support.WHOLE]
    assert found == [line.strip() for line in known.strip().splitlines()]


def test_utilization_is_usage_in_percent_of_the_reservation() -> None:
    measured = metrics.utilization(
        {"cpu": "512", "memory": "1024"},
        metrics.Usage(cpu_seconds=10),
        metrics.Usage(cpu_seconds=16, memory_bytes=256 * 2**20, at=60),
    )
    assert measured == metrics.Utilization(cpu_percent=20, memory_percent=25)


def test_usage_is_measured_from_the_processes_of_a_namespace() -> None:
    as_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    work = "sum(range(10_000_000)); print('done', flush=True); input()"
    command = ["unshare", *as_user, "--pid", "--fork", "--kill-child", sys.executable, "-c", work]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        namespace = str(Path(f"/proc/{process.pid}/ns/pid_for_children").readlink())
        used = metrics.usage_by_namespace()[namespace]
        process.communicate("\n")
    assert used.cpu_seconds >= 0.05
    assert used.memory_bytes > 2**20


def test_metrics_of_a_running_task_are_published_by_service_and_by_cluster() -> None:
    to = stored.Metrics()
    definition = {"cpu": "256", "memory": "512"}
    task = SimpleNamespace(service_arn="service", task_definition_arn="definition", cluster_arn="arn:cluster/main")
    state: Any = SimpleNamespace(
        tasks={"task": task},
        services={"service": SimpleNamespace(name="web")},
        task_definitions={"definition": definition},
    )
    published = metrics.Publisher(state, to)

    async def twice() -> None:
        for _ in range(2):
            await published.publish({"task": [os.getpid()]})

    asyncio.run(twice())
    assert sorted(to.known()) == [
        stored.metric("AWS/ECS", name, dimensions)
        for name in ("CPUUtilization", "MemoryUtilization")
        for dimensions in ({"ClusterName": "main"}, {"ClusterName": "main", "ServiceName": "web"})
    ]
    of_service = stored.metric("AWS/ECS", "MemoryUtilization", {"ClusterName": "main", "ServiceName": "web"})
    (point,) = to.points(of_service)
    assert stored.statistic([point], "Sum") > 0


@pytest.mark.parametrize("name", ["../../../etc/passwd", "a b", "a" * 256, "a.b", "ä"])
def test_cluster_name_that_aws_refuses_is_refused(name: str) -> None:
    state = State(account_id="000000000000", region="us-east-1")
    with pytest.raises(EcsError, match="Cluster must match") as error:
        clusters.create_cluster(state, {"clusterName": name})
    assert error.value.code == "InvalidParameterException"
    assert state.clusters == {}


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"memory": 513}, "The 'memory' setting for container 'main' is greater than for the task."),
        ({"memoryReservation": 513}, "The 'memoryReservation' setting for container 'main' is greater than for the"),
        ({"cpu": 257}, "The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'."),
    ],
)
def test_container_with_more_resources_than_its_task_is_refused(container: dict[str, int], message: str) -> None:
    request = {
        "family": "web",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "executionRoleArn": "arn:aws:iam::000000000000:role/execution",
        "containerDefinitions": [{"name": "main", "image": "image", **container}],
    }
    with pytest.raises(EcsError) as error:
        task_definitions._check(request)
    assert error.value.code == "ClientException"
    assert message in error.value.message


HOME = ("000000000000", "us-east-1")
OTHER_SERVICES = {
    "Subnets": [{"SubnetId": "subnet-1", "CidrBlock": "10.0.0.0/24", "AvailabilityZone": "a", "VpcId": "vpc-1"}],
    "SecurityGroups": [{"GroupId": "sg-1"}],
    "TargetGroups": [{"TargetType": "ip", "LoadBalancerArns": ["arn"]}],
}
"""The answers of EC2 and elbv2."""
AWSVPC = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "ENABLED"}}
TAGS = [{"key": "a", "value": "b"}]
STRATEGY = [{"capacityProvider": "FARGATE", "weight": 1, "base": 0}]
MAIN = {
    "name": "main", "image": "image", "cpu": 10, "memory": 64, "memoryReservation": 32, "essential": True,
    "entryPoint": ["x"], "command": ["x"], "environment": [{"name": "A", "value": "b"}],
    "secrets": [{"name": "S", "valueFrom": "x"}], "mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}],
    "dependsOn": [{"containerName": "side", "condition": "START"}], "startTimeout": 5, "stopTimeout": 5,
    "healthCheck": {"command": ["CMD", "x"], "interval": 5, "timeout": 5, "retries": 1, "startPeriod": 0},
    "portMappings": [{"containerPort": 80, "hostPort": 80, "protocol": "tcp"}], "dockerLabels": {"a": "b"},
    "logConfiguration": {"logDriver": "awslogs", "options": {
        "awslogs-group": "g", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "p",
    }},
    "linuxParameters": {"initProcessEnabled": True, "capabilities": {"drop": ["ALL"]}},
}  # fmt: skip
EVERYTHING = {
    "CreateCluster": {
        "clusterName": "c", "tags": TAGS, "settings": [{"name": "containerInsights", "value": "enabled"}],
        "capacityProviders": ["FARGATE"], "defaultCapacityProviderStrategy": STRATEGY,
    },
    "UpdateCluster": {"cluster": "c", "settings": [{"name": "containerInsights", "value": "enabled"}]},
    "PutClusterCapacityProviders": {
        "cluster": "c", "capacityProviders": ["FARGATE"], "defaultCapacityProviderStrategy": STRATEGY,
    },
    "RegisterTaskDefinition": {
        "family": "f", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512",
        "executionRoleArn": "arn:aws:iam::000000000000:role/execution", "tags": TAGS, "volumes": [{"name": "v"}],
        "containerDefinitions": [MAIN, {"name": "side", "image": "image"}],
        "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        "ephemeralStorage": {"sizeInGiB": 21},
    },
    "CreateService": {
        "serviceName": "s", "cluster": "c", "taskDefinition": "f", "desiredCount": 1, "launchType": "FARGATE",
        "networkConfiguration": AWSVPC, "tags": TAGS, "healthCheckGracePeriodSeconds": 5,
        "loadBalancers": [{"targetGroupArn": "arn", "containerName": "main", "containerPort": 80}],
        "serviceRegistries": [{"registryArn": "arn", "containerName": "main", "containerPort": 80}],
        "deploymentConfiguration": {
            "deploymentCircuitBreaker": {"enable": True, "rollback": True}, "maximumPercent": 200,
            "minimumHealthyPercent": 50, "alarms": {"alarmNames": ["a"], "rollback": True, "enable": True},
        },
    },
    "UpdateService": {"cluster": "c", "service": "s", "desiredCount": 2, "forceNewDeployment": True},
    "RunTask": {
        "cluster": "c", "taskDefinition": "f", "count": 1, "launchType": "FARGATE", "tags": TAGS, "group": "g",
        "networkConfiguration": AWSVPC,
        "overrides": {"containerOverrides": [{"name": "main", "environment": [{"name": "A", "value": "b"}]}]},
    },
    "TagResource": {"resourceArn": "arn:aws:ecs:us-east-1:000000000000:cluster/c", "tags": TAGS},
    "DescribeClusters": {"clusters": ["c"], "include": ["TAGS"]},
    "DescribeServices": {"cluster": "c", "services": ["s"], "include": ["TAGS"]},
    "DescribeTasks": {"cluster": "c", "tasks": ["t"], "include": ["TAGS"]},
    "ListTasks": {"cluster": "c", "serviceName": "s", "maxResults": 1},
    "DeleteService": {"cluster": "c", "service": "s", "force": True},
}  # fmt: skip
JUNK: tuple[Any, ...] = (None, "", "x", [], {}, [{}], [None], -5, 99999, True, "aws:x", [""], {"key": "aws:x"})


class Ecs:
    """The API without tasks, with the resources that the requests above name."""

    def __init__(self) -> None:
        async def call(*_: Any, **__: Any) -> Any:
            return OTHER_SERVICES

        nothing: Any = SimpleNamespace(
            changed=lambda: None, start_task=lambda *_: None, stop_task=lambda *_: None, call=call
        )
        self.state = State(*HOME)
        self.api = Api(self.state, nothing, nothing, nothing, 0)
        for action in ("CreateCluster", "RegisterTaskDefinition", "CreateService"):
            assert self.send(action, EVERYTHING[action])[0] == 200

    def send(self, action: str, request: Any, scope: tuple[str, str] = HOME) -> tuple[int, Any]:
        headers = {"x-amz-target": f"AmazonEC2ContainerServiceV20141113.{action}"}
        with request_scope(*scope):
            status, _, body = asyncio.run(
                self.api.handle_request("POST", "/", headers, json.dumps(request).encode(), {})
            )
        return status, json.loads(body)


def variants(value: Any) -> Any:
    """The value with one place removed or replaced, for each place and each replacement."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        if isinstance(value, dict):
            yield {name: item for name, item in value.items() if name != key}
        for item in (*JUNK, *variants(value[key])):
            changed = copy.copy(value)
            changed[key] = item
            yield changed


@pytest.mark.parametrize("action", EVERYTHING)
def test_no_input_makes_a_5xx(action: str) -> None:
    ecs = Ecs()
    for request in variants(EVERYTHING[action]):
        try:
            status, _ = ecs.send(action, request)
        except Exception as error:
            raise AssertionError(request) from error
        assert status in (200, 400), request
    # Accepted records can still be described.
    for name in ("Clusters", "Services"):
        members = [each.name for each in getattr(ecs.state, name.lower()).values()][:10]
        request = {} if name == "Clusters" else {"cluster": "c"}
        assert ecs.send(f"Describe{name}", {**request, name.lower(): members, "include": ["TAGS"]})[0] == 200


CONTAINER = ("RegisterTaskDefinition", "containerDefinitions", 0)


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("CreateCluster", "tags", 0), {"value": "b"}, "InvalidParameterException"),
        (("CreateCluster", "tags", 0), {"key": "aws:x"}, "InvalidParameterException"),
        (("CreateCluster", "settings", 0), {"value": "enabled"}, "InvalidParameterException"),
        (("RegisterTaskDefinition", "tags", 0), {"key": "aws:x"}, "InvalidParameterException"),
        (("RegisterTaskDefinition", "volumes", 0), {}, "ClientException"),
        ((*CONTAINER, "environment", 0), {"value": "b"}, "ClientException"),
        ((*CONTAINER, "portMappings", 0), {"protocol": "tcp"}, "ClientException"),
        ((*CONTAINER, "portMappings", 0), {"containerPort": 99999}, "ClientException"),
        ((*CONTAINER, "memory"), 5, "ClientException"),
        ((*CONTAINER, "memory"), -5, "ClientException"),
        ((*CONTAINER, "memoryReservation"), 5, "ClientException"),
        ((*CONTAINER, "cpu"), -5, "ClientException"),
        ((*CONTAINER, "healthCheck", "command"), [], "ClientException"),
        (("CreateService", "serviceRegistries", 0), {"containerName": "main"}, "InvalidParameterException"),
        (("CreateService", "taskDefinition"), None, "InvalidParameterException"),
        (("DescribeServices", "services"), [], "InvalidParameterException"),
        (("DescribeTasks", "tasks"), [], "InvalidParameterException"),
    ],
)
def test_input_that_the_model_allows_and_aws_refuses_is_refused(path: tuple[Any, ...], value: Any, code: str) -> None:
    action, *keys, last = path
    request: Any = copy.deepcopy(EVERYTHING[action])
    node = request
    for key in keys:
        node = node[key]
    node[last] = value
    if action == "CreateCluster":
        request["clusterName"] = "new"
    ecs = Ecs()
    status, answer = ecs.send(action, request)
    assert (status, answer.get("__type")) == (400, code)
    assert "new" not in ecs.state.clusters
    if (action, last) == ("CreateService", "taskDefinition"):
        assert answer["message"] == "TaskDefinition can not be blank."


@pytest.mark.parametrize("scope", [("000000000000", "eu-west-1"), ("222222222222", "us-east-1")])
def test_another_account_or_region_has_no_clusters_and_changes_none(scope: tuple[str, str]) -> None:
    ecs = Ecs()
    before = repr(ecs.state)
    assert ecs.send("ListClusters", {}, scope) == (200, {"clusterArns": []})
    assert ecs.send("DescribeClusters", {"clusters": ["c"]}, scope)[1]["failures"] == [
        {"arn": f"arn:aws:ecs:{scope[1]}:{scope[0]}:cluster/c", "reason": "MISSING"}
    ]
    assert ecs.send("DescribeServices", {"cluster": "c", "services": ["s"]}, scope)[0] == 400
    for action in sorted(support.ACTIONS):
        if not action.startswith(("Describe", "List")):
            status, answer = ecs.send(action, EVERYTHING.get(action, {}), scope)
            assert (status, answer["__type"]) == (400, "UnsupportedFeatureException"), action
    types = cloudformation._Types(ecs.api, SimpleNamespace(), ecs.state)  # type: ignore[arg-type]
    with request_scope(*scope), pytest.raises(HandlerFailed, match="outside account 000000000000 and region us-east-1"):
        asyncio.run(types.create_cluster("New", {"ClusterName": "new"}, "stack"))
    assert repr(ecs.state) == before
