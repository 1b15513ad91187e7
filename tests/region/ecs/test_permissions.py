"""A task starts only with the permissions of its execution role."""

from __future__ import annotations

from typing import Any

import pytest

from .workbench import EXECUTION_POLICY, Workbench

pytestmark = pytest.mark.region

PROGRAM = "print('ran')"


def allow(*actions: str, resource: str = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


@pytest.fixture(scope="module")
def secret(workbench: Workbench) -> str:
    return str(workbench.client("secretsmanager").create_secret(Name="guarded", SecretString="value")["ARN"])


def outcome(workbench: Workbench, role: str, secret: str) -> str:
    """The reason why a task with this execution role stopped."""
    definition = workbench.task_definition(
        "guarded",
        {"name": "main", "image": workbench.image(PROGRAM), "secrets": [{"name": "S", "valueFrom": secret}]},
        executionRoleArn=role,
    )
    return str(workbench.stopped(workbench.run(definition))["stoppedReason"])


def test_least_privilege_is_enough(workbench: Workbench, secret: str) -> None:
    account, region = workbench.config.account_id, workbench.config.region
    role = workbench.role(
        "least",
        policy(
            allow("ecr:GetAuthorizationToken"),
            allow(
                "ecr:BatchGetImage",
                "ecr:GetDownloadUrlForLayer",
                resource=f"arn:aws:ecr:{region}:{account}:repository/program",
            ),
            allow(
                "logs:CreateLogStream",
                "logs:PutLogEvents",
                resource=f"arn:aws:logs:{region}:{account}:log-group:{workbench.log_group}:*",
            ),
            allow("secretsmanager:GetSecretValue", resource=secret),
        ),
    )
    assert outcome(workbench, role, secret) == "Essential container in task exited"


@pytest.mark.parametrize(
    ("name", "statements", "reason"),
    [
        (
            "no-secret",
            [allow("ecr:*", "logs:*")],
            "is not authorized to perform: secretsmanager:GetSecretValue on resource: {secret} because no "
            "identity-based policy allows the secretsmanager:GetSecretValue action",
        ),
        (
            "denied-secret",
            [
                *EXECUTION_POLICY["Statement"],
                {"Effect": "Deny", "Action": "secretsmanager:*", "Resource": "*"},
            ],
            "with an explicit deny in an identity-based policy",
        ),
        (
            "no-login",
            [allow("ecr:BatchGetImage", "logs:*", "secretsmanager:*")],
            "unable to retrieve ecr registry auth: service call has been retried 1 time(s): AccessDeniedException: ",
        ),
        (
            "other-repository",
            [
                allow("ecr:GetAuthorizationToken", "logs:*", "secretsmanager:*"),
                allow("ecr:*", resource="arn:aws:ecr:us-east-1:000000000000:repository/other"),
            ],
            "CannotPullContainerError: ",
        ),
        ("no-logs", [allow("ecr:*", "secretsmanager:*")], "failed to create Cloudwatch log stream: "),
    ],
)
def test_missing_permission_of_the_role_stops_the_task(
    workbench: Workbench, secret: str, name: str, statements: list[dict[str, Any]], reason: str
) -> None:
    assert reason.format(secret=secret) in outcome(workbench, workbench.role(name, policy(*statements)), secret)


def test_role_that_does_not_trust_tasks_cannot_be_assumed(workbench: Workbench, secret: str) -> None:
    role = workbench.role("of-ec2", EXECUTION_POLICY, service="ec2.amazonaws.com")
    assert outcome(workbench, role, secret).startswith(f"ECS was unable to assume the role '{role}'")


def test_role_that_does_not_exist_cannot_be_assumed(workbench: Workbench, secret: str) -> None:
    role = f"arn:aws:iam::{workbench.config.account_id}:role/absent"
    assert outcome(workbench, role, secret).startswith(f"ECS was unable to assume the role '{role}'")
