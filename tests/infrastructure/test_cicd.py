"""What the pipeline may do, and from where."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import boto3
from lib.config.environments import STAGING

REPOSITORY = Path(__file__).parents[2]

# Whoever may do one of these can give itself the rest, or take the environment down.
NEVER = (
    "cloudformation:DeleteStack",
    "ecr:BatchDeleteImage",
    "ecr:DeleteRepository",
    "ecs:DeleteService",
    "ecs:RegisterTaskDefinition",
    "ecs:UpdateService",
    "rds:",
    "secretsmanager:PutSecretValue",
    "secretsmanager:DeleteSecret",
    "ssmmessages:",
)


def statements(synthesis: Any) -> list[dict[str, Any]]:
    return synthesis.one("cicd", "IAM::ManagedPolicy")["PolicyDocument"]["Statement"]  # type: ignore[no-any-return]


def text(resource: Any) -> str:
    """A resource of a statement as one string."""
    if isinstance(resource, dict):
        return "".join(part if isinstance(part, str) else f"<{part['Ref']}>" for part in resource["Fn::Join"][1])
    return str(resource)


def test_only_one_branch_of_one_repository_may_assume_the_role(staging: Any) -> None:
    (statement,) = staging.one("cicd", "IAM::Role")["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": "repo:alva/alva:ref:refs/heads/staging",
        }
    }
    assert staging.one("cicd", "IAM::OIDCProvider")["Url"] == "https://token.actions.githubusercontent.com"


def test_no_action_is_a_wildcard_and_none_is_dangerous(staging: Any) -> None:
    actions = [action for statement in statements(staging) for action in statement["Action"]]
    assert not [action for action in actions if "*" in action]
    for action in actions:
        reads = action.split(":")[1].startswith(("Describe", "List", "Get"))
        assert reads or not action.startswith(NEVER), action


def test_changes_are_confined_to_this_environment(staging: Any) -> None:
    for statement in statements(staging):
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        if statement["Sid"] == "List":
            assert all(a.split(":")[1].startswith(("Describe", "List", "Get", "Validate")) for a in statement["Action"])
            continue
        for resource in map(text, resources):
            named = ("alva-", "/alva/", "cdk-hnb659fds", "cdk-bootstrap")
            assert any(part in resource for part in named), f"{statement['Sid']}: {resource}"


def test_roles_are_passed_to_cloudformation_and_to_tasks_only(staging: Any) -> None:
    passed = {
        text(statement["Resource"]).rsplit("/", 1)[1]: statement["Condition"]["StringEquals"]["iam:PassedToService"]
        for statement in statements(staging)
        if "iam:PassRole" in statement["Action"]
    }
    assert passed == {
        "cdk-hnb659fds-cfn-exec-role-*": "cloudformation.amazonaws.com",
        "alva-staging-*": "ecs-tasks.amazonaws.com",
    }


def test_only_the_migration_may_be_run(staging: Any) -> None:
    (statement,) = [each for each in statements(staging) if "ecs:RunTask" in each["Action"]]
    assert "task-definition/alva-migrations:*" in text(statement["Resource"][0])
    assert "cluster/alva-staging-cluster" in text(statement["Condition"]["ArnEquals"]["ecs:cluster"])


def test_user_with_keys_is_a_setting_with_the_same_policy(staging: Any, synthesise: Callable[..., Any]) -> None:
    assert staging.resources("cicd", "IAM::User") == []
    keyed = synthesise(STAGING.with_settings(pipeline__user=True))
    user = keyed.one("cicd", "IAM::User")
    assert user["UserName"] == "alva-cicd-user"
    assert user["ManagedPolicyArns"] == [{"Ref": "ReleasePolicy"}]
    assert keyed.resources("cicd", "IAM::AccessKey") == [], "a key in a template is a key in its outputs"


def test_an_account_that_has_githubs_provider_keeps_it(synthesise: Callable[..., Any]) -> None:
    arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
    shared = synthesise(STAGING.with_settings(pipeline__oidc_provider_arn=arn))
    assert shared.resources("cicd", "IAM::OIDCProvider") == []
    assert arn in json.dumps(shared.one("cicd", "IAM::Role"))


IAM_PREFIXES = {
    "cloudformation": "cloudformation",
    "cloudwatch": "cloudwatch",
    "ec2": "ec2",
    "ecr": "ecr",
    "ecs": "ecs",
    "elbv2": "elasticloadbalancing",
    "iam": "iam",
    "logs": "logs",
    "rds": "rds",
    "s3": "s3",
    "secretsmanager": "secretsmanager",
    "ssm": "ssm",
    "sts": "sts",
}

# What a person does at a terminal, with rights of their own.
NOT_IN_THE_PIPELINE = {
    "cloudformation:DeleteStack": "what a first, failed creation left behind",
    "secretsmanager:PutSecretValue": "./alva secrets",
    "secretsmanager:UpdateSecretVersionStage": "./alva secrets",
}


# Modules of verbs that are a person's: bootstrap, destroy, sleep and wake, the restart after a secret was set.
A_PERSONS_MODULES = {"bootstrap.py", "teardown.py", "hibernation.py", "restart.py"}


def calls_of_the_engine() -> set[str]:
    """Every call of AWS in the release engine, as IAM names it: `self._aws.ecs.run_task(...)`, or a page of one."""
    found = set()
    files = {file.name: file for file in (REPOSITORY / "src" / "alva" / "release").rglob("*.py")}
    assert files.keys() >= A_PERSONS_MODULES, "has one been renamed?"
    for file in (file for name, file in files.items() if name not in A_PERSONS_MODULES):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Attribute) and (service := client_name(node.func.value)):
                found.add((service, node.func.attr))
            for client, operation in itertools.pairwise(node.args):
                if (service := client_name(client)) and isinstance(operation, ast.Constant):
                    found.add((service, str(operation.value)))
    session = cast(Any, boto3.session.Session(region_name="us-east-1"))
    operations = {service: session.client(service).meta.method_to_api_mapping for service, _ in found}
    return {
        f"{IAM_PREFIXES[service]}:{operations[service][operation]}"
        for service, operation in found
        if operation in operations[service]
    }


def client_name(node: ast.expr) -> str | None:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name if name in IAM_PREFIXES else None


def test_pipeline_may_do_what_the_engine_does(staging: Any) -> None:
    needed = calls_of_the_engine()
    assert {"cloudformation:ExecuteChangeSet", "ecs:RunTask", "ssm:PutParameter"} <= needed, "calls are found at all"
    allowed = {action for statement in statements(staging) for action in statement["Action"]}
    assert needed - allowed - set(NOT_IN_THE_PIPELINE) == set()
