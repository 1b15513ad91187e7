"""The two roles of a task: the execution role for ECS, and the task role for its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from lib.constructs.accepted_findings import accept

Statement = Mapping[str, Any]

PULL_ACTIONS = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]


class TaskRoles(Construct):
    """Attributes `execution_role_arn` and `task_role_arn`.

    The execution role can pull one image, write to one log group and read the given secrets. AWS's managed policy would
    allow every repository and log group of the account. The task role has no permissions, unless ECS Exec is on: then
    it can open channels and write the sessions to the log group `exec_log_group_name`.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        repository_arn: str,
        log_group_arn: str,
        secret_arns: Sequence[str],
        exec_log_group_name: str | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        statements: list[Statement] = [
            # This action does not support resources: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html
            allow(["ecr:GetAuthorizationToken"], "*"),
            allow(PULL_ACTIONS, repository_arn),
            allow(["logs:CreateLogStream", "logs:PutLogEvents"], log_group_arn),
        ]
        if secret_arns:
            statements.append(allow(["secretsmanager:GetSecretValue"], list(secret_arns)))
        self.execution_role = self._role("ExecutionRole", "Starts the task", statements)
        accept(
            self.execution_role,
            "IAM does not support resources for GetAuthorizationToken",
            "AwsSolutions-IAM5[Resource::*]",
        )
        self.execution_role_arn = self.execution_role.attr_arn

        # Its streams have the names of the sessions.
        streams = f"log-group:{exec_log_group_name}:*"
        # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html#ecs-exec-required-iam-permissions
        exec_statements: list[Statement] = [
            allow(
                [
                    "ssmmessages:CreateControlChannel",
                    "ssmmessages:CreateDataChannel",
                    "ssmmessages:OpenControlChannel",
                    "ssmmessages:OpenDataChannel",
                ],
                "*",
            ),
            # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-exec.html#ecs-exec-logging
            allow(["logs:DescribeLogGroups"], "*"),
            allow(
                ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                f"arn:{cdk.Aws.PARTITION}:logs:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:{streams}",
            ),
        ]
        is_entered = exec_log_group_name is not None
        self.task_role = self._role("TaskRole", "Permissions of the task's code", exec_statements if is_entered else [])
        if is_entered:
            accept(
                self.task_role,
                "IAM does not support resources for ECS Exec's channels and DescribeLogGroups, and the names of the "
                "log streams are not known in advance",
                "AwsSolutions-IAM5[Resource::*]",
                f"AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:{streams}]",
            )
        self.task_role_arn = self.task_role.attr_arn

    def _role(self, name: str, description: str, statements: Sequence[Statement]) -> iam.CfnRole:
        trust = {
            **allow(["sts:AssumeRole"], None),
            "Principal": {"Service": "ecs-tasks.amazonaws.com"},
            # Another account's tasks must not assume it: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html
            "Condition": {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}},
        }
        return iam.CfnRole(
            self,
            name,
            description=description,
            assume_role_policy_document={"Version": "2012-10-17", "Statement": [trust]},
            policies=[iam.CfnRole.PolicyProperty(policy_name="task", policy_document=policy(statements))]
            if statements
            else None,
        )


def allow(actions: Sequence[str], resource: str | Sequence[str] | None) -> dict[str, Any]:
    """Return one statement that allows these actions. `None`: a trust policy, which has no resource."""
    statement: dict[str, Any] = {"Effect": "Allow", "Action": list(actions)}
    if resource is not None:
        statement["Resource"] = resource
    return statement


def policy(statements: Sequence[Statement]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [dict(statement) for statement in statements]}
