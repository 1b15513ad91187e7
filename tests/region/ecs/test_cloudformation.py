"""The resource types AWS::ECS::*, in stacks."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.waiting import until

from .workbench import SERVER, Json, Workbench

pytestmark = pytest.mark.region


def template(workbench: Workbench, image: str, **service: Any) -> str:
    return json.dumps(
        {
            "Resources": {
                "Cluster": {
                    "Type": "AWS::ECS::Cluster",
                    "Properties": {
                        "ClusterName": "stacked",
                        "ClusterSettings": [{"Name": "containerInsights", "Value": "disabled"}],
                        "Tags": [{"Key": "owner", "Value": "alva"}],
                    },
                },
                "Providers": {
                    "Type": "AWS::ECS::ClusterCapacityProviderAssociations",
                    "Properties": {
                        "Cluster": {"Ref": "Cluster"},
                        "CapacityProviders": ["FARGATE", "FARGATE_SPOT"],
                        "DefaultCapacityProviderStrategy": [{"CapacityProvider": "FARGATE", "Weight": 1}],
                    },
                },
                "Definition": {
                    "Type": "AWS::ECS::TaskDefinition",
                    "Properties": {
                        "Family": "stacked",
                        "NetworkMode": "awsvpc",
                        "RequiresCompatibilities": ["FARGATE"],
                        "Cpu": "256",
                        "Memory": "512",
                        "ExecutionRoleArn": f"arn:aws:iam::{workbench.config.account_id}:role/execution",
                        "ContainerDefinitions": [
                            {
                                "Name": "web",
                                "Image": image,
                                "Essential": True,
                                "Environment": [{"Name": "PORT", "Value": "3000"}],
                                "PortMappings": [{"ContainerPort": 3000}],
                                "StopTimeout": "2",
                            }
                        ],
                    },
                },
                "Service": {
                    "Type": "AWS::ECS::Service",
                    "DependsOn": "Providers",
                    "Properties": {
                        "Cluster": {"Ref": "Cluster"},
                        "ServiceName": "stacked",
                        "TaskDefinition": {"Ref": "Definition"},
                        "DesiredCount": 1,
                        "DeploymentConfiguration": {
                            "DeploymentCircuitBreaker": {
                                "Enable": True,
                                "Rollback": True,
                                "ThresholdConfiguration": {"Type": "COUNT", "Value": 1},
                            }
                        },
                        "NetworkConfiguration": {
                            "AwsvpcConfiguration": {
                                "Subnets": workbench.subnets,
                                "SecurityGroups": [workbench.security_group],
                            }
                        },
                        **service,
                    },
                },
            },
            "Outputs": {
                "Name": {"Value": {"Fn::GetAtt": ["Service", "Name"]}},
                "Arn": {"Value": {"Ref": "Service"}},
                "Definition": {"Value": {"Ref": "Definition"}},
            },
        }
    )


def settled(workbench: Workbench, stack: str) -> Json:
    def finished() -> Any:
        found = workbench.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        return not found["StackStatus"].endswith("IN_PROGRESS") and found

    found: Json = until(finished, f"the end of what is in progress on {stack}")
    return found


def reasons(workbench: Workbench, stack: str, logical_id: str) -> list[str]:
    events = workbench.client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
    return [e.get("ResourceStatusReason", "") for e in events if e["LogicalResourceId"] == logical_id]


def time_of(workbench: Workbench, stack: str, logical_id: str, status: str) -> datetime:
    """The time at which a resource first reached a status."""
    events = workbench.client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
    times: list[datetime] = [
        e["Timestamp"] for e in events if (e["LogicalResourceId"], e["ResourceStatus"]) == (logical_id, status)
    ]
    return min(times)


def test_stack_with_a_service_is_created_updated_rolled_back_and_deleted(workbench: Workbench) -> None:
    cloudformation = workbench.client("cloudformation")
    good = workbench.image(SERVER)
    cloudformation.create_stack(StackName="ecs", TemplateBody=template(workbench, good))
    stack = settled(workbench, "ecs")
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    outputs = {o["OutputKey"]: o["OutputValue"] for o in stack["Outputs"]}
    assert outputs["Name"] == "stacked"
    assert outputs["Arn"].endswith(":service/stacked/stacked")
    described = workbench.ecs.describe_services(cluster="stacked", services=["stacked"])["services"][0]
    assert described["deployments"][0]["rolloutState"] == "COMPLETED"
    assert described["taskDefinition"] == outputs["Definition"]
    (deployment,) = workbench.ecs.list_service_deployments(cluster="stacked", service="stacked")["serviceDeployments"]
    begun, ended = (time_of(workbench, "ecs", "Service", f"CREATE_{state}") for state in ("IN_PROGRESS", "COMPLETE"))
    # An event's time is rounded down to a millisecond, and is at least one millisecond after the previous event's.
    tolerance = timedelta(milliseconds=20)
    assert begun - tolerance <= deployment["startedAt"] <= deployment["finishedAt"] < ended + tolerance

    bad = good.rpartition("@")[0] + "@sha256:" + "2" * 64
    cloudformation.update_stack(StackName="ecs", TemplateBody=template(workbench, bad))
    assert settled(workbench, "ecs")["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert any(
        "Error occurred during operation 'ECS Deployment Circuit Breaker was triggered'." in reason
        for reason in reasons(workbench, "ecs", "Service")
    )
    described = workbench.ecs.describe_services(cluster="stacked", services=["stacked"])["services"][0]
    assert described["taskDefinition"] == outputs["Definition"]
    assert described["runningCount"] == 1

    cloudformation.update_stack(StackName="ecs", TemplateBody=template(workbench, good, DesiredCount=2))
    assert settled(workbench, "ecs")["StackStatus"] == "UPDATE_COMPLETE"
    described = workbench.ecs.describe_services(cluster="stacked", services=["stacked"])["services"][0]
    assert described["runningCount"] == 2

    cloudformation.delete_stack(StackName="ecs")
    until(lambda: _is_gone(workbench, "ecs"))
    assert workbench.ecs.list_clusters()["clusterArns"] == [
        c for c in workbench.ecs.list_clusters()["clusterArns"] if "stacked" not in c
    ]


def test_unknown_property_of_a_service_fails_the_stack(workbench: Workbench) -> None:
    workbench.client("cloudformation").create_stack(
        StackName="typo", TemplateBody=template(workbench, workbench.image(SERVER), DesiredCuont=1)
    )
    assert settled(workbench, "typo")["StackStatus"] == "ROLLBACK_COMPLETE"
    assert any("DesiredCuont" in reason for reason in reasons(workbench, "typo", "Service"))


def test_first_deployment_that_fails_rolls_the_stack_back(workbench: Workbench) -> None:
    bad = workbench.image(SERVER).rpartition("@")[0] + "@sha256:" + "3" * 64
    workbench.client("cloudformation").create_stack(StackName="stillborn", TemplateBody=template(workbench, bad))
    assert settled(workbench, "stillborn")["StackStatus"] == "ROLLBACK_COMPLETE"
    assert workbench.ecs.describe_clusters(clusters=["stacked"])["clusters"][0]["status"] == "INACTIVE"


def _is_gone(workbench: Workbench, stack: str) -> bool:
    try:
        found = workbench.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError:
        return True
    assert found["StackStatus"] in ("DELETE_IN_PROGRESS", "DELETE_COMPLETE"), found
    return bool(found["StackStatus"] == "DELETE_COMPLETE")


def test_drift_aware_change_set_creates_a_deleted_service_again(workbench: Workbench) -> None:
    cloudformation, stack = workbench.client("cloudformation"), "drifted"
    image = workbench.image(SERVER)
    cloudformation.create_stack(StackName=stack, TemplateBody=template(workbench, image))
    assert settled(workbench, stack)["StackStatus"] == "CREATE_COMPLETE"
    ecs = workbench.client("ecs")
    ecs.delete_service(cluster="stacked", service="stacked", force=True)
    # Until then ECS refuses another service of that name: "Unable to Start a service that is still Draining."
    until(lambda: ecs.describe_services(cluster="stacked", services=["stacked"])["services"][0]["status"] != "DRAINING")
    named = {"StackName": stack, "ChangeSetName": "revert-drift"}
    cloudformation.create_change_set(**named, UsePreviousTemplate=True, DeploymentMode="REVERT_DRIFT")
    (change,) = cloudformation.describe_change_set(**named)["Changes"]
    assert (change["ResourceChange"]["Action"], change["ResourceChange"]["ResourceDriftStatus"]) == ("Add", "DELETED")
    cloudformation.execute_change_set(**named)
    assert settled(workbench, stack)["StackStatus"] == "UPDATE_COMPLETE", reasons(workbench, stack, "Service")
    (service,) = ecs.describe_services(cluster="stacked", services=["stacked"])["services"]
    assert (service["status"], service["runningCount"]) == ("ACTIVE", 1)
    cloudformation.delete_stack(StackName=stack)
    until(lambda: "stacked" not in str(ecs.list_clusters()["clusterArns"]))
