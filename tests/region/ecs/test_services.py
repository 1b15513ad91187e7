"""Services behind a load balancer: rollouts, failures, rollbacks, with real processes and the real Envoy."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.waiting import until

from .workbench import SERVER, Json, Workbench

pytestmark = pytest.mark.region

BREAKER = {"enable": True, "rollback": True, "thresholdConfiguration": {"type": "COUNT", "value": 2}}


@pytest.fixture(scope="module")
def listener(workbench: Workbench) -> str:
    """The ARN of the listener on port 80 of a load balancer."""
    elb = workbench.client("elbv2")
    ec2 = workbench.client("ec2")
    group = ec2.create_security_group(GroupName="visitors", Description="visitors", VpcId=workbench.vpc)["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
    )
    balancer = elb.create_load_balancer(
        Name="edge", Subnets=workbench.subnets, SecurityGroups=[group], Scheme="internet-facing"
    )
    return str(
        elb.create_listener(
            LoadBalancerArn=balancer["LoadBalancers"][0]["LoadBalancerArn"],
            Port=80,
            Protocol="HTTP",
            DefaultActions=[
                {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain"}}
            ],
        )["Listeners"][0]["ListenerArn"]
    )


class Web:
    """A service of the given name behind /name."""

    def __init__(self, workbench: Workbench, listener: str, name: str, priority: int, **service: Any) -> None:
        self.workbench, self.name = workbench, name
        self.image = workbench.image(SERVER)
        elb = workbench.client("elbv2")
        self.target_group = elb.create_target_group(
            Name=name,
            Protocol="HTTP",
            Port=3000,
            VpcId=workbench.vpc,
            TargetType="ip",
            HealthCheckPath="/health",
            HealthCheckIntervalSeconds=5,
            HealthCheckTimeoutSeconds=2,
            HealthyThresholdCount=2,
            UnhealthyThresholdCount=2,
        )["TargetGroups"][0]["TargetGroupArn"]
        elb.modify_target_group_attributes(
            TargetGroupArn=self.target_group,
            Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "5"}],
        )
        elb.create_rule(
            ListenerArn=listener,
            Priority=priority,
            Conditions=[{"Field": "path-pattern", "Values": [f"/{name}", f"/{name}/*"]}],
            Actions=[{"Type": "forward", "TargetGroupArn": self.target_group}],
        )
        self.create(**service)

    def create(self, **service: Any) -> None:
        self.workbench.create_service(
            self.name,
            self.definition(GREETING="one"),
            loadBalancers=[{"targetGroupArn": self.target_group, "containerName": "web", "containerPort": 3000}],
            deploymentConfiguration={"deploymentCircuitBreaker": BREAKER},
            **service,
        )

    def definition(self, image: str | None = None, **environment: str) -> str:
        return self.workbench.task_definition(
            self.name,
            {
                "name": "web",
                "image": image or self.image,
                "portMappings": [{"containerPort": 3000}],
                "environment": [{"name": k, "value": v} for k, v in {"PORT": "3000", **environment}.items()],
                "stopTimeout": 2,
            },
        )

    def update(self, **parameters: Any) -> Json:
        workbench = self.workbench
        updated: Json = workbench.ecs.update_service(cluster=workbench.cluster, service=self.name, **parameters)
        return updated

    def get(self, path: str = "") -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.workbench.config.edge_port}/{self.name}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    @contextmanager
    def load(self) -> Iterator[Counter[tuple[int, str]]]:
        """Send requests from two clients until the block ends; yields their responses."""
        answers: Counter[tuple[int, str]] = Counter()
        over = threading.Event()

        def client() -> None:
            while not over.is_set():
                try:
                    answers[self.get()] += 1
                except OSError as error:
                    answers[(0, repr(error))] += 1
                time.sleep(0.01)

        clients = [threading.Thread(target=client) for _ in range(2)]
        for thread in clients:
            thread.start()
        try:
            yield answers
        finally:
            over.set()
            for thread in clients:
                thread.join()


@pytest.fixture(scope="module")
def shared_web(workbench: Workbench, listener: str) -> Web:
    return Web(workbench, listener, "web", 10)


@pytest.fixture
def web(workbench: Workbench, shared_web: Web) -> Web:
    """A service that answers at /web, with one task, in a steady state."""
    if workbench.service("web")["status"] == "INACTIVE":
        shared_web.create()
    elif workbench.service("web")["desiredCount"] != 1:
        shared_web.update(desiredCount=1)
    assert workbench.deployed("web")["status"] in ("SUCCESSFUL", "ROLLBACK_SUCCESSFUL")
    until(lambda: len(workbench.tasks_of("web")) == 1 and shared_web.get()[0] == 200)
    return shared_web


def test_first_deployment_serves_through_the_load_balancer_when_it_is_successful(
    workbench: Workbench, listener: str
) -> None:
    web = Web(workbench, listener, "first", 30)
    assert workbench.deployed("first")["status"] == "SUCCESSFUL"
    assert web.get() == (200, "one")
    service = workbench.service("first")
    assert [d["rolloutState"] for d in service["deployments"]] == ["COMPLETED"]
    assert (service["runningCount"], service["pendingCount"]) == (1, 0)
    events = workbench.events("first")
    assert events[0].startswith("has started 1 tasks: (task ")
    assert events[1] == f"registered 1 targets in (target-group {web.target_group})"
    assert events[2].startswith("(deployment ecs-svc/")
    assert events[2].endswith(" deployment completed.")
    assert events[3] == "has reached a steady state."


def test_rolling_update_replaces_the_tasks_and_no_request_fails(web: Web) -> None:
    before = {t["taskArn"] for t in web.workbench.tasks_of("web")}
    with web.load() as answers:
        web.update(taskDefinition=web.definition(GREETING="two"), desiredCount=2)
        deployment = web.workbench.deployed("web")
    assert deployment["status"] == "SUCCESSFUL"
    assert {status for status, _ in answers} == {200}, answers
    assert answers[(200, "two")] > 0
    assert web.get() == (200, "two")
    assert before.isdisjoint(t["taskArn"] for t in web.workbench.tasks_of("web"))


def test_failing_update_rolls_back_and_no_request_fails(web: Web) -> None:
    serving = web.get()
    good = web.workbench.service("web")["taskDefinition"]
    with web.load() as answers:
        web.update(taskDefinition=web.definition(STATUS="500", GREETING="broken"))
        deployment = web.workbench.deployed("web")
    assert deployment["status"] == "ROLLBACK_SUCCESSFUL"
    assert deployment["deploymentCircuitBreaker"] == {"status": "TRIGGERED", "failureCount": 2, "threshold": 2}
    assert set(answers) == {serving}, answers
    service = web.workbench.service("web")
    assert service["taskDefinition"] == good
    assert [d["status"] for d in service["deployments"]] == ["PRIMARY"]
    stopped = [t for t in web.workbench.tasks_of("web", "STOPPED") if "failed ELB" in t["stoppedReason"]]
    assert stopped[0]["stoppedReason"] == f"Task failed ELB health checks in (target-group {web.target_group})"
    assert stopped[0]["stopCode"] == "ServiceSchedulerInitiated"
    events = "\n".join(web.workbench.events("web"))
    assert "due to (reason Health checks failed with these codes: [500])" in events
    assert "deployment failed: tasks failed to start." in events
    assert "rolling back to deployment ecs-svc/" in events


def test_killed_task_is_replaced(web: Web) -> None:
    before = web.workbench.tasks_of("web")
    web.workbench.ecs.stop_task(cluster=web.workbench.cluster, task=before[0]["taskArn"], reason="a test")
    after = until(
        lambda: (
            len(tasks := [t for t in web.workbench.tasks_of("web") if t["lastStatus"] == "RUNNING"]) == len(before)
            and before[0]["taskArn"] not in {t["taskArn"] for t in tasks}
            and tasks
        )
    )
    assert len(after) == len(before)
    stopped = web.workbench.stopped(before[0]["taskArn"])
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "a test")
    assert stopped["containers"][0]["exitCode"] == 0
    web.workbench.ecs.get_waiter("services_stable").wait(
        cluster=web.workbench.cluster, services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )


def test_forced_deployment_starts_new_tasks_of_the_same_definition(web: Web) -> None:
    before = {t["taskArn"] for t in web.workbench.tasks_of("web")}
    definition = web.workbench.service("web")["taskDefinition"]
    web.update(forceNewDeployment=True)
    assert web.workbench.deployed("web")["status"] == "SUCCESSFUL"
    assert web.workbench.service("web")["taskDefinition"] == definition
    assert before.isdisjoint(t["taskArn"] for t in web.workbench.tasks_of("web"))


def test_scaling_to_zero_and_back_needs_no_deployment(web: Web) -> None:
    deployments = web.workbench.ecs.list_service_deployments(cluster=web.workbench.cluster, service="web")
    web.update(desiredCount=0)
    until(lambda: web.workbench.service("web")["runningCount"] == 0)
    assert web.get()[0] == 503
    web.update(desiredCount=1)
    until(lambda: web.get()[0] == 200)
    assert (
        web.workbench.ecs.list_service_deployments(cluster=web.workbench.cluster, service="web")["serviceDeployments"]
        == deployments["serviceDeployments"]
    )


def test_first_deployment_that_fails_has_nothing_to_roll_back_to(workbench: Workbench, listener: str) -> None:
    web = Web(workbench, listener, "never", 20, desiredCount=0)
    assert workbench.deployed("never")["status"] == "SUCCESSFUL"
    workbench.ecs.delete_service(cluster=workbench.cluster, service="never")
    unknown = web.image.rpartition("@")[0] + "@sha256:" + "0" * 64
    workbench.create_service(
        "missing", web.definition(image=unknown), deploymentConfiguration={"deploymentCircuitBreaker": BREAKER}
    )
    deployment = workbench.deployed("missing")
    assert deployment["status"] == "STOPPED"
    service = workbench.service("missing")
    assert service["deployments"][0]["rolloutState"] == "FAILED"
    assert service["deployments"][0]["rolloutStateReason"] == "ECS deployment circuit breaker: tasks failed to start."
    stopped = workbench.tasks_of("missing", "STOPPED")
    assert len(stopped) >= 2  # As on AWS, a third task may have started before the second has failed.
    assert stopped[0]["stopCode"] == "TaskFailedToStart"
    assert stopped[0]["stoppedReason"].startswith("CannotPullContainerError: ")
    assert stopped[0]["stoppedReason"].endswith(": not found")


def test_deployment_with_an_alarm_in_alarm_is_rolled_back(web: Web) -> None:
    workbench, cloudwatch = web.workbench, web.workbench.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="too-slow",
        Namespace="Test",
        MetricName="Latency",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    good = workbench.service("web")["taskDefinition"]
    web.update(
        taskDefinition=web.definition(GREETING="slow"),
        deploymentConfiguration={
            "alarms": {"alarmNames": ["too-slow"], "enable": True, "rollback": True},
            "bakeTimeInMinutes": 1,
        },
    )
    until(lambda: web.get() == (200, "slow"))
    # Not set_alarm_state: the next evaluation could reset the state before the scheduler reads it.
    cloudwatch.put_metric_data(Namespace="Test", MetricData=[{"MetricName": "Latency", "Value": 5.0}])
    until(lambda: workbench.deployment("web")["status"] == "ROLLBACK_IN_PROGRESS")
    deployment = workbench.deployment("web")
    assert deployment["alarms"]["status"] == "TRIGGERED"
    assert deployment["alarms"]["triggeredAlarmNames"] == ["too-slow"]
    until(lambda: workbench.service("web")["taskDefinition"] == good)
    quiet = {"alarms": {"alarmNames": [], "enable": False, "rollback": False}, "bakeTimeInMinutes": 0}
    web.update(forceNewDeployment=True, deploymentConfiguration=quiet)
    assert workbench.deployed("web")["status"] == "SUCCESSFUL"


def test_stopped_deployment_rolls_back(web: Web) -> None:
    workbench = web.workbench
    good = workbench.service("web")["taskDefinition"]
    web.update(taskDefinition=web.definition(STARTUP_SECONDS="600"))
    arn = workbench.deployment("web")["serviceDeploymentArn"]
    workbench.ecs.stop_service_deployment(serviceDeploymentArn=arn, stopType="ROLLBACK")
    deployment = workbench.deployed("web")
    assert (deployment["serviceDeploymentArn"], deployment["status"]) == (arn, "ROLLBACK_SUCCESSFUL")
    assert workbench.service("web")["taskDefinition"] == good
    with pytest.raises(ClientError, match="ConflictException"):
        workbench.ecs.stop_service_deployment(serviceDeploymentArn=arn)


def test_newer_deployment_stops_the_running_one(web: Web) -> None:
    web.update(taskDefinition=web.definition(STARTUP_SECONDS="600"))
    overtaken = web.workbench.deployment("web")["serviceDeploymentArn"]
    web.update(taskDefinition=web.definition(GREETING="newest"))
    assert web.workbench.deployed("web")["status"] == "SUCCESSFUL"
    assert web.get() == (200, "newest")
    described = web.workbench.ecs.describe_service_deployments(serviceDeploymentArns=[overtaken])
    assert described["serviceDeployments"][0]["status"] == "STOPPED"


def test_events_of_a_rollout_have_awss_order(web: Web) -> None:
    def roll_out() -> None:
        web.update(forceNewDeployment=True)
        web.workbench.deployed("web")
        until(lambda: web.workbench.events("web")[-1] == "has reached a steady state.", "the end of the rollout")

    roll_out()  # After it, no earlier deployment sends events.
    before = {event["id"] for event in web.workbench.service("web")["events"]}
    roll_out()
    events = [e["message"] for e in reversed(web.workbench.service("web")["events"]) if e["id"] not in before]
    told = [event.removeprefix("(service web) ").split(" (")[0].split(":")[0] for event in events]
    assert [e for e in told if not e.startswith("(deployment")] == [
        "has started 1 tasks",
        "registered 1 targets in",
        "has begun draining connections on 1 tasks.",
        "deregistered 1 targets in",
        "has stopped 1 running tasks",
        "has reached a steady state.",
    ]


def test_deleted_service_drains_and_is_inactive(web: Web) -> None:
    workbench = web.workbench
    with pytest.raises(ClientError, match="cannot be stopped while it is scaled above 0"):
        workbench.ecs.delete_service(cluster=workbench.cluster, service="web")
    answer = workbench.ecs.delete_service(cluster=workbench.cluster, service="web", force=True)
    assert answer["service"]["status"] == "DRAINING"
    until(lambda: workbench.service("web")["status"] == "INACTIVE")
    assert web.get()[0] == 503
    assert workbench.tasks_of("web") == []


def test_failed_deployment_is_sent_to_eventbridge(workbench: Workbench) -> None:
    sqs, events = workbench.client("sqs"), workbench.client("events")
    queue = sqs.create_queue(QueueName="told")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {
        "source": ["aws.ecs"],
        "detail-type": ["ECS Deployment State Change"],
        "resources": [{"suffix": "/untold"}],
        "detail": {"eventName": ["SERVICE_DEPLOYMENT_FAILED"]},
    }
    events.put_rule(Name="failed", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="failed", Targets=[{"Id": "queue", "Arn": arn}])
    unknown = workbench.image(SERVER).rpartition("@")[0] + "@sha256:" + "4" * 64
    workbench.create_service(
        "untold",
        workbench.task_definition("untold", {"name": "web", "image": unknown}),
        deploymentConfiguration={"deploymentCircuitBreaker": BREAKER},
    )
    messages = until(lambda: sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"))
    (event,) = [json.loads(message["Body"]) for message in messages]
    assert event["detail"]["eventName"] == "SERVICE_DEPLOYMENT_FAILED"
    assert event["detail"]["reason"] == "ECS deployment circuit breaker: tasks failed to start."


def test_service_waits_for_a_free_address_with_an_event_and_then_runs(workbench: Workbench) -> None:
    subnet = workbench.client("ec2").create_subnet(
        VpcId=workbench.vpc, CidrBlock="10.0.20.0/28", AvailabilityZone="us-east-1a"
    )["Subnet"]["SubnetId"]
    full: Json = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [workbench.security_group]}}
    sleeper = {"name": "main", "image": workbench.image(SERVER), "entryPoint": ["sleep"], "command": ["600"]}
    definition = workbench.task_definition("sleeper", {**sleeper, "stopTimeout": 2})
    request = {"cluster": workbench.cluster, "taskDefinition": definition, "launchType": "FARGATE"}
    # AWS reserves 5 of the 16 addresses of a /28.
    tasks = [
        task["taskArn"]
        for count in (10, 1)
        for task in workbench.ecs.run_task(**request, networkConfiguration=full, count=count)["tasks"]
    ]
    assert len(tasks) == 11
    for task in tasks:
        workbench.running(task)
    workbench.ecs.create_service(**request, serviceName="crowded", networkConfiguration=full, desiredCount=1)
    until(
        lambda: any(
            "was unable to place a task. Reason: " in event["message"]
            and f"not enough free addresses in subnet '{subnet}'" in event["message"]
            for event in workbench.service("crowded")["events"]
        )
    )
    assert workbench.service("crowded")["runningCount"] == 0
    for task in tasks:
        workbench.ecs.stop_task(cluster=workbench.cluster, task=task)
    until(lambda: workbench.service("crowded")["runningCount"] == 1)
    workbench.ecs.delete_service(cluster=workbench.cluster, service="crowded", force=True)
    for task in tasks:
        workbench.stopped(task)
