"""A log group with a retention."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from constructs import Construct

from lib.config.environments import Environment
from lib.constructs.accepted_findings import accept


def log_group(scope: Construct, construct_id: str, name: str, *, environment: Environment) -> logs.CfnLogGroup:
    """Return the log group `name`. If the environment keeps its data, the group outlives its stack."""
    group = logs.CfnLogGroup(
        scope, construct_id, log_group_name=name, retention_in_days=environment.tasks.log_retention_days
    )
    policy = cdk.CfnDeletionPolicy.RETAIN if environment.keep_data else cdk.CfnDeletionPolicy.DELETE
    group.cfn_options.deletion_policy = policy
    group.cfn_options.update_replace_policy = policy
    accept(group, "Encrypted with CloudWatch's own key; no line holds a secret", "CKV_AWS_158")
    return group
