"""The VPC's accepted and rejected connections, in CloudWatch Logs."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from lib.config.environments import Environment
from lib.constructs.log_group import log_group
from lib.constructs.task_roles import allow, policy


class FlowLogs(Construct):
    """https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-iam-role.html"""

    def __init__(self, scope: Construct, construct_id: str, *, vpc_id: str, environment: Environment) -> None:
        super().__init__(scope, construct_id)
        group = log_group(self, "LogGroup", environment.log_group("flow-logs"), environment=environment)
        role = iam.CfnRole(
            self,
            "Role",
            description="Writes the flow logs",
            assume_role_policy_document=policy(
                [
                    {
                        **allow(["sts:AssumeRole"], None),
                        "Principal": {"Service": "vpc-flow-logs.amazonaws.com"},
                        "Condition": {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}},
                    }
                ]
            ),
            policies=[
                iam.CfnRole.PolicyProperty(
                    policy_name="write",
                    policy_document=policy(
                        [
                            allow(
                                ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                                group.attr_arn,
                            ),
                        ]
                    ),
                )
            ],
        )
        ec2.CfnFlowLog(
            self,
            "FlowLog",
            resource_type="VPC",
            resource_id=vpc_id,
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_group_name=group.ref,
            deliver_logs_permission_arn=role.attr_arn,
            max_aggregation_interval=600,
        )
