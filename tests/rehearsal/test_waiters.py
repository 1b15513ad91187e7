"""boto3's waiters, which poll AWS's API until a condition holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import WaiterError

from tests.rehearsal.environment import Rehearsal

pytestmark = pytest.mark.region

SOON: Any = {"Delay": 1, "MaxAttempts": 60}


def test_waiters_find_running_services_and_tasks(rehearsal: Rehearsal) -> None:
    ecs, elb = rehearsal.client("ecs"), rehearsal.client("elbv2")
    cluster, services = "alva-staging-cluster", ["alva-web", "alva-api"]
    ecs.get_waiter("services_stable").wait(cluster=cluster, services=services, WaiterConfig=SOON)
    tasks = ecs.list_tasks(cluster=cluster, serviceName="alva-web")["taskArns"]
    ecs.get_waiter("tasks_running").wait(cluster=cluster, tasks=tasks, WaiterConfig=SOON)
    elb.get_waiter("load_balancer_available").wait(WaiterConfig=SOON)
    for group in elb.describe_target_groups()["TargetGroups"]:
        elb.get_waiter("target_in_service").wait(TargetGroupArn=group["TargetGroupArn"], WaiterConfig=SOON)
    rehearsal.client("rds").get_waiter("db_instance_available").wait(WaiterConfig=SOON)
    rehearsal.client("elasticache").get_waiter("replication_group_available").wait(WaiterConfig=SOON)
    rehearsal.client("ec2").get_waiter("nat_gateway_available").wait(WaiterConfig=SOON)


def test_waiters_follow_a_stack_from_creation_to_deletion(rehearsal: Rehearsal) -> None:
    client, name = rehearsal.client("cloudformation"), "followed-by-waiters"

    def template(value: str, kind: str = "String") -> str:
        properties = {"Name": "/followed", "Type": kind, "Value": value}
        return json.dumps({"Resources": {"One": {"Type": "AWS::SSM::Parameter", "Properties": properties}}})

    client.create_stack(StackName=name, TemplateBody=template("1"))
    client.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig=SOON)
    client.update_stack(StackName=name, TemplateBody=template("2"))
    client.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig=SOON)
    client.update_stack(StackName=name, TemplateBody=template("3", kind="Nonsense"))
    with pytest.raises(WaiterError, match="UPDATE_ROLLBACK_COMPLETE"):
        client.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig=SOON)
    client.create_change_set(StackName=name, ChangeSetName="third", TemplateBody=template("4"))
    client.get_waiter("change_set_create_complete").wait(StackName=name, ChangeSetName="third", WaiterConfig=SOON)
    client.execute_change_set(StackName=name, ChangeSetName="third")
    client.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig=SOON)
    client.delete_stack(StackName=name)
    client.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=SOON)


def test_waiter_for_stopped_tasks_ends_when_the_task_has(rehearsal: Rehearsal) -> None:
    ecs, cluster = rehearsal.client("ecs"), "alva-staging-cluster"
    (service,) = ecs.describe_services(cluster=cluster, services=["alva-web"])["services"]
    answer = ecs.run_task(
        cluster=cluster,
        taskDefinition="alva-web",
        launchType="FARGATE",
        networkConfiguration=service["networkConfiguration"],
        overrides={"containerOverrides": [{"name": "web", "command": ["sleep", "600"]}]},
    )
    task = answer["tasks"][0]["taskArn"]
    ecs.get_waiter("tasks_running").wait(cluster=cluster, tasks=[task], WaiterConfig=SOON)
    ecs.stop_task(cluster=cluster, task=task, reason="enough")
    ecs.get_waiter("tasks_stopped").wait(cluster=cluster, tasks=[task], WaiterConfig=SOON)
    (stopped,) = ecs.describe_tasks(cluster=cluster, tasks=[task])["tasks"]
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "enough")
