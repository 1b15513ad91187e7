"""The members of ECS's API that this region honours. Other members that have an effect on AWS are refused, by name.

Each action has a table of honoured members. `WITHOUT_EFFECT` marks a member that is accepted, stored and returned but
has no effect here (a comment gives the reason). A set lists the only honoured values. A dictionary describes the
members of a structure, also of each structure in a list. `docs/reference/region.md` is generated from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from alva.region.constraints import input_members

HONOURED: Final = "honoured"
WITHOUT_EFFECT: Final = "accepted without effect"

Honoured = Mapping[str, Any]
"""Member name -> HONOURED, WITHOUT_EFFECT, frozenset of values, or the same for the members of a structure."""

_FARGATE = frozenset({"FARGATE"})

_TAGS = {"key": HONOURED, "value": HONOURED}

_CAPACITY_PROVIDER_STRATEGY = {
    "capacityProvider": frozenset({"FARGATE", "FARGATE_SPOT"}),
    "weight": WITHOUT_EFFECT,
    "base": WITHOUT_EFFECT,
}

_NETWORK = {
    "awsvpcConfiguration": {
        "subnets": HONOURED,
        # Enforced where tasks have network namespaces. With loopback addresses only their existence is checked.
        "securityGroups": HONOURED,
        "assignPublicIp": HONOURED,
    }
}

_DEPLOYMENT_CONFIGURATION = {
    "deploymentCircuitBreaker": {
        "enable": HONOURED,
        "rollback": HONOURED,
        "resetOnHealthyTask": HONOURED,
        "thresholdConfiguration": HONOURED,
    },
    "maximumPercent": HONOURED,
    "minimumHealthyPercent": HONOURED,
    "alarms": {"alarmNames": HONOURED, "rollback": HONOURED, "enable": HONOURED},
    "strategy": frozenset({"ROLLING"}),
    "bakeTimeInMinutes": HONOURED,
    "earlySuccessCriteria": HONOURED,
}

_CONTAINER_DEFINITION = {
    "name": HONOURED,
    "image": HONOURED,
    "essential": HONOURED,
    "entryPoint": HONOURED,
    "command": HONOURED,
    "environment": HONOURED,
    "secrets": HONOURED,
    "mountPoints": HONOURED,
    "dependsOn": HONOURED,
    "startTimeout": HONOURED,
    "stopTimeout": HONOURED,
    "user": HONOURED,
    "workingDirectory": HONOURED,
    "readonlyRootFilesystem": HONOURED,
    "healthCheck": HONOURED,
    "logConfiguration": {
        "logDriver": frozenset({"awslogs"}),
        "options": {
            "awslogs-group": HONOURED,
            "awslogs-region": HONOURED,
            "awslogs-stream-prefix": HONOURED,
            "awslogs-create-group": HONOURED,
            # Delivery here is immediate and complete, so both modes are the same.
            "mode": WITHOUT_EFFECT,
            "max-buffer-size": WITHOUT_EFFECT,
        },
    },
    # The process can listen on any port of the task's address.
    "portMappings": {
        "containerPort": HONOURED,
        "hostPort": WITHOUT_EFFECT,
        "protocol": frozenset({"tcp"}),
        "name": WITHOUT_EFFECT,
        "appProtocol": WITHOUT_EFFECT,
    },
    "cpu": WITHOUT_EFFECT,
    "memory": HONOURED,
    "memoryReservation": WITHOUT_EFFECT,
    "dockerLabels": WITHOUT_EFFECT,
    # Processes cannot gain privileges anyway.
    "linuxParameters": {"initProcessEnabled": HONOURED, "capabilities": {"drop": WITHOUT_EFFECT}},
    "versionConsistency": WITHOUT_EFFECT,
}

_CLUSTER_CONFIGURATION = {
    # Sessions are not encrypted with a key, and transcripts are not kept in S3.
    "executeCommandConfiguration": {
        "logging": HONOURED,
        "logConfiguration": {
            "cloudWatchLogGroupName": HONOURED,
            "cloudWatchEncryptionEnabled": frozenset({False}),
        },
    },
    "managedStorageConfiguration": WITHOUT_EFFECT,
}

_SERVICE = {
    "cluster": HONOURED,
    "taskDefinition": HONOURED,
    "desiredCount": HONOURED,
    "loadBalancers": {"targetGroupArn": HONOURED, "containerName": HONOURED, "containerPort": HONOURED},
    "serviceRegistries": {
        "registryArn": HONOURED,
        "containerName": WITHOUT_EFFECT,
        "containerPort": WITHOUT_EFFECT,
        "port": WITHOUT_EFFECT,
    },
    "capacityProviderStrategy": _CAPACITY_PROVIDER_STRATEGY,
    "platformVersion": frozenset({"LATEST", "1.4.0"}),
    "networkConfiguration": _NETWORK,
    "healthCheckGracePeriodSeconds": HONOURED,
    "deploymentConfiguration": _DEPLOYMENT_CONFIGURATION,
    "deploymentController": {"type": frozenset({"ECS"})},
    "enableECSManagedTags": HONOURED,
    "propagateTags": HONOURED,
    "enableExecuteCommand": HONOURED,
    "availabilityZoneRebalancing": WITHOUT_EFFECT,
}

WHOLE = (
    "DeleteCluster", "DeleteService", "DeleteTaskDefinitions", "DeregisterTaskDefinition", "DescribeClusters",
    "DescribeServiceDeployments", "DescribeServiceRevisions", "DescribeServices", "DescribeTaskDefinition",
    "DescribeTasks", "ExecuteCommand", "ListClusters", "ListServiceDeployments", "ListTagsForResource",
    "ListTaskDefinitionFamilies", "ListTaskDefinitions", "StopServiceDeployment", "StopTask", "UntagResource",
)  # fmt: skip
"""Actions with every member of AWS's model."""

ACTIONS: dict[str, Honoured] = {
    **{action: dict.fromkeys(input_members("ecs", action), HONOURED) for action in WHOLE},
    "CreateCluster": {
        "clusterName": HONOURED,
        "tags": _TAGS,
        "settings": WITHOUT_EFFECT,
        "configuration": _CLUSTER_CONFIGURATION,
        "capacityProviders": frozenset({"FARGATE", "FARGATE_SPOT"}),
        "defaultCapacityProviderStrategy": _CAPACITY_PROVIDER_STRATEGY,
    },
    "UpdateCluster": {"cluster": HONOURED, "settings": WITHOUT_EFFECT, "configuration": _CLUSTER_CONFIGURATION},
    "UpdateClusterSettings": {"cluster": HONOURED, "settings": WITHOUT_EFFECT},
    "PutClusterCapacityProviders": {
        "cluster": HONOURED,
        "capacityProviders": frozenset({"FARGATE", "FARGATE_SPOT"}),
        "defaultCapacityProviderStrategy": _CAPACITY_PROVIDER_STRATEGY,
    },
    "DescribeCapacityProviders": {
        "capacityProviders": HONOURED,
        "include": HONOURED,
        "nextToken": HONOURED,
        "maxResults": HONOURED,
    },
    "RegisterTaskDefinition": {
        "family": HONOURED,
        "networkMode": frozenset({"awsvpc"}),
        "containerDefinitions": _CONTAINER_DEFINITION,
        "volumes": {"name": HONOURED, "host": {}, "configuredAtLaunch": frozenset({False})},
        "requiresCompatibilities": frozenset({"FARGATE"}),
        "tags": _TAGS,
        # Tasks have no credentials here: it is only checked that the role exists and trusts ECS.
        "taskRoleArn": WITHOUT_EFFECT,
        "executionRoleArn": HONOURED,
        # CPU is not limited. Memory is limited if this machine has control groups.
        "cpu": WITHOUT_EFFECT,
        "memory": HONOURED,
        "ephemeralStorage": WITHOUT_EFFECT,
        # Tasks run on the machine's own architecture.
        "runtimePlatform": {
            "cpuArchitecture": WITHOUT_EFFECT,
            "operatingSystemFamily": frozenset({"LINUX"}),
        },
    },
    "CreateService": {
        **_SERVICE,
        "serviceName": HONOURED,
        # A service's name prevents a second creation.
        "clientToken": WITHOUT_EFFECT,
        "launchType": _FARGATE,
        "schedulingStrategy": frozenset({"REPLICA"}),
        "tags": _TAGS,
    },
    "UpdateService": {**_SERVICE, "service": HONOURED, "forceNewDeployment": HONOURED},
    "ListServices": {
        "cluster": HONOURED,
        "launchType": HONOURED,
        "schedulingStrategy": HONOURED,
        "nextToken": HONOURED,
        "maxResults": HONOURED,
    },
    "RunTask": {
        "capacityProviderStrategy": _CAPACITY_PROVIDER_STRATEGY,
        "cluster": HONOURED,
        "count": HONOURED,
        "enableECSManagedTags": HONOURED,
        "enableExecuteCommand": HONOURED,
        "group": HONOURED,
        "launchType": _FARGATE,
        "networkConfiguration": _NETWORK,
        "overrides": {
            "containerOverrides": {
                "name": HONOURED,
                "command": HONOURED,
                "environment": HONOURED,
                "cpu": WITHOUT_EFFECT,
                "memory": HONOURED,
                "memoryReservation": WITHOUT_EFFECT,
            },
            "cpu": WITHOUT_EFFECT,
            "memory": HONOURED,
            "taskRoleArn": WITHOUT_EFFECT,
            "executionRoleArn": HONOURED,
            "ephemeralStorage": WITHOUT_EFFECT,
        },
        "platformVersion": frozenset({"LATEST", "1.4.0"}),
        "propagateTags": HONOURED,
        "referenceId": WITHOUT_EFFECT,
        "startedBy": HONOURED,
        "tags": _TAGS,
        "taskDefinition": HONOURED,
        "clientToken": HONOURED,
    },
    "ListTasks": {
        "cluster": HONOURED,
        "family": HONOURED,
        "startedBy": HONOURED,
        "serviceName": HONOURED,
        "desiredStatus": HONOURED,
        "launchType": HONOURED,
        "nextToken": HONOURED,
        "maxResults": HONOURED,
    },
    "TagResource": {"resourceArn": HONOURED, "tags": _TAGS},
}
"""All other actions are refused."""
