"""Stops the database in the evening and starts it in the morning, without a Lambda function."""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from lib.config.settings import WorkingHours
from lib.constructs.task_roles import allow, policy


class NightStop(Construct):
    """Two EventBridge schedules that call the RDS API directly, with a role for this one instance.

    AWS starts a stopped instance after seven days. The schedule stops it again the next evening.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        hours: WorkingHours,
        prefix: str,
        instance_identifier: str,
        instance_arn: str,
    ) -> None:
        super().__init__(scope, construct_id)
        role = iam.CfnRole(
            self,
            "Role",
            description="Stops and starts the database",
            assume_role_policy_document=policy(
                [
                    {
                        **allow(["sts:AssumeRole"], None),
                        "Principal": {"Service": "scheduler.amazonaws.com"},
                        "Condition": {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}},
                    }
                ]
            ),
            policies=[
                iam.CfnRole.PolicyProperty(
                    policy_name="stop-and-start",
                    policy_document=policy([allow(["rds:StartDBInstance", "rds:StopDBInstance"], instance_arn)]),
                )
            ],
        )
        for name, action, hour in (
            ("start", "startDBInstance", hours.start_hour - 1),
            ("stop", "stopDBInstance", hours.stop_hour),
        ):
            scheduler.CfnSchedule(
                self,
                name.capitalize(),
                name=f"{prefix}-database-{name}",
                schedule_expression=f"cron(0 {hour} ? * MON-FRI *)",
                schedule_expression_timezone=hours.time_zone,
                flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
                target=scheduler.CfnSchedule.TargetProperty(
                    arn=f"arn:{cdk.Aws.PARTITION}:scheduler:::aws-sdk:rds:{action}",
                    role_arn=role.attr_arn,
                    input=json.dumps({"DbInstanceIdentifier": instance_identifier}),
                ),
            )
