"""The pipeline's permissions, and the tokens that its roles trust."""

from __future__ import annotations

import ast
import fnmatch
import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
import yaml
from lib.config.environments import STAGING

REPOSITORY = Path(__file__).parents[2]

# With each of these permissions, the holder can get all others, or delete the environment.
NEVER = (
    "cloudformation:DeleteStack",
    "ecr:BatchDeleteImage",
    "ecr:DeleteRepository",
    "ecs:DeleteService",
    "ecs:RegisterTaskDefinition",
    "rds:",
    "secretsmanager:PutSecretValue",
    "secretsmanager:DeleteSecret",
    "ssmmessages:",
)


BRANCH = "refs/heads/staging"
NAMED = {"pipeline__repository": "octo/alva", "pipeline__owner_id": 123456, "pipeline__repository_id": 456789}


def statements(synthesis: Any, policy: str = "release") -> list[dict[str, Any]]:
    found = synthesis.one("cicd", "IAM::ManagedPolicy", ManagedPolicyName=f"alva-staging-{policy}")
    return found["PolicyDocument"]["Statement"]  # type: ignore[no-any-return]


def trusts(synthesis: Any, role: str, subject: str, audience: str = "sts.amazonaws.com") -> bool:
    """Return whether the role trusts a token of GitHub with this subject, as IAM evaluates StringEquals."""
    name = f"alva-staging-{role}"
    (statement,) = synthesis.one("cicd", "IAM::Role", RoleName=name)["AssumeRolePolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Allow", "sts:AssumeRoleWithWebIdentity")
    assert list(statement["Condition"]) == ["StringEquals"], "an operator with wildcards matches more than one branch"
    token = {"sub": subject, "aud": audience}
    return all(
        token[key.rpartition(":")[2]] in (wanted if isinstance(wanted, list) else [wanted])
        for key, wanted in statement["Condition"]["StringEquals"].items()
    )


def text(resource: Any) -> str:
    """A resource of a statement as one string."""
    if isinstance(resource, dict):
        return "".join(part if isinstance(part, str) else f"<{part['Ref']}>" for part in resource["Fn::Join"][1])
    return str(resource)


@pytest.mark.parametrize("role", ["deploy", "build"])
def test_only_one_branch_of_one_repository_may_assume_the_roles(synthesise: Callable[..., Any], role: str) -> None:
    """Under both forms of the subject: https://docs.github.com/actions/concepts/security/openid-connect"""
    named = synthesise(STAGING.with_settings(**NAMED))
    assert named.one("cicd", "IAM::OIDCProvider")["Url"] == "https://token.actions.githubusercontent.com"
    for subject in (f"repo:octo/alva:ref:{BRANCH}", f"repo:octo@123456/alva@456789:ref:{BRANCH}"):
        assert trusts(named, role, subject)
        assert not trusts(named, role, subject, audience="https://github.com/octo")
        assert not trusts(named, role, f"{subject}2"), "another branch"
    for near in (
        "repo:octo/alva:ref:refs/heads/main",
        "repo:octo/alva:ref:refs/tags/staging",
        "repo:octo/alva:pull_request",
        "repo:octo/alva:environment:staging",
        f"repo:octo/alva-fork:ref:{BRANCH}",
        f"repo:OCTO/alva:ref:{BRANCH}",
        f"repo:octo@123456/alva:ref:{BRANCH}",
        f"repo:octo@123456/alva@1:ref:{BRANCH}",
        f"repo:octo@1/alva@456789:ref:{BRANCH}",
        f"repo:other@123456/alva@456789:ref:{BRANCH}",
    ):
        assert not trusts(named, role, near), near


def test_without_a_repository_no_subject_is_trusted(staging: Any) -> None:
    """A subject of GitHub names an owner and a repository, with a slash between them."""
    for role in staging.resources("cicd", "IAM::Role"):
        (statement,) = role.properties["AssumeRolePolicyDocument"]["Statement"]
        for subject in statement["Condition"]["StringEquals"]["token.actions.githubusercontent.com:sub"]:
            assert "/" not in subject.split(":")[1], subject


def test_build_role_pushes_images_and_does_nothing_else(staging: Any) -> None:
    sign_in, push = statements(staging, "build")
    assert (sign_in["Action"], sign_in["Resource"]) == (["ecr:GetAuthorizationToken"], "*")
    assert all(action.startswith("ecr:") for action in push["Action"])
    assert text(push["Resource"]).endswith(":repository/alva-*")
    (role,) = (r for r in staging.resources("cicd", "IAM::Role") if r.properties["RoleName"] == "alva-staging-build")
    assert role.properties["ManagedPolicyArns"] == [{"Ref": "BuildPolicy"}]
    assert "Policies" not in role.properties
    release = {action for statement in statements(staging) for action in statement["Action"]}
    assert set(NOT_IN_THE_ENGINE) - {"iam:PassRole"} <= set(push["Action"]), "all actions of a push"
    assert not release & set(NOT_IN_THE_ENGINE) - {"iam:PassRole"}, "a release pushes no layers"


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
            reads = ("Describe", "List", "Get", "Validate", "View")
            assert all(action.split(":")[1].startswith(reads) for action in statement["Action"])
            continue
        for resource in map(text, resources):
            named = ("alva-", "/alva/", "cdk-hnb659fds", "cdk-bootstrap")
            assert any(part in resource for part in named), f"{statement['Sid']}: {resource}"


def test_roles_are_passed_to_tasks_only(staging: Any) -> None:
    passed = {
        text(statement["Resource"]).rsplit("/", 1)[1]: statement["Condition"]["StringEquals"]["iam:PassedToService"]
        for statement in statements(staging)
        if "iam:PassRole" in statement["Action"]
    }
    assert passed == {
        "alva-staging-*": "ecs-tasks.amazonaws.com",
    }


def test_stacks_are_changed_with_two_named_roles_of_the_bootstrap(staging: Any) -> None:
    (statement,) = [each for each in statements(staging) if "sts:AssumeRole" in each["Action"]]
    assert [text(each) for each in statement["Resource"]] == [
        f"arn:<AWS::Partition>:iam::<AWS::AccountId>:role/cdk-hnb659fds-{kind}-role-<AWS::AccountId>-<AWS::Region>"
        for kind in ("deploy", "file-publishing")
    ]
    actions = {action for each in statements(staging) for action in each["Action"]}
    changes = {action for action in actions if action.startswith(("cloudformation:", "s3:", "iam:"))} - {
        action
        for action in actions
        if action.split(":")[1].startswith(("Describe", "Detect", "Get", "List", "Validate"))
    }
    assert changes == {"cloudformation:CancelUpdateStack", "iam:PassRole", "iam:SimulatePrincipalPolicy"}


def test_drift_is_reverted_within_the_cluster_only(staging: Any) -> None:
    """A release reverts drift. It registers no task definition, so it can only use those of a stack."""
    (statement,) = [each for each in statements(staging) if "ecs:UpdateService" in each["Action"]]
    assert text(statement["Resource"]).endswith(":service/alva-staging-cluster/*")


def test_only_the_migration_and_the_dependency_check_may_be_run(staging: Any) -> None:
    (statement,) = [each for each in statements(staging) if "ecs:RunTask" in each["Action"]]
    families = [text(each).rpartition("task-definition/")[2] for each in statement["Resource"][:-1]]
    assert families == ["alva-migrations:*", "alva-api:*"]
    assert "cluster/alva-staging-cluster" in text(statement["Condition"]["ArnEquals"]["ecs:cluster"])


def test_pipeline_user_with_access_keys_is_optional_and_has_the_same_policy(
    staging: Any, synthesise: Callable[..., Any]
) -> None:
    assert staging.resources("cicd", "IAM::User") == []
    keyed = synthesise(STAGING.with_settings(pipeline__user=True))
    user = keyed.one("cicd", "IAM::User")
    assert user["UserName"] == "alva-cicd-user"
    assert user["ManagedPolicyArns"] == [{"Ref": "ReleasePolicy"}, {"Ref": "BuildPolicy"}]
    assert keyed.resources("cicd", "IAM::AccessKey") == [], "a key in a template is a key in its outputs"


def test_existing_github_provider_of_an_account_is_used(synthesise: Callable[..., Any]) -> None:
    arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
    shared = synthesise(STAGING.with_settings(pipeline__oidc_provider_arn=arn))
    assert shared.resources("cicd", "IAM::OIDCProvider") == []
    assert all(arn in json.dumps(role.properties) for role in shared.resources("cicd", "IAM::Role"))


CLIENTS = {"scaling": "application-autoscaling", "quotas": "service-quotas"}
"""Name of a client in the sources -> boto3's name, if they differ."""

IAM_PREFIXES = {
    "application-autoscaling": "application-autoscaling",
    "budgets": "budgets",
    "cloudformation": "cloudformation",
    "cloudwatch": "cloudwatch",
    "ec2": "ec2",
    "ecr": "ecr",
    "ecs": "ecs",
    "elasticache": "elasticache",
    "elbv2": "elasticloadbalancing",
    "freetier": "freetier",
    "iam": "iam",
    "logs": "logs",
    "quotas": "servicequotas",
    "rds": "rds",
    "s3": "s3",
    "secretsmanager": "secretsmanager",
    "ssm": "ssm",
    "sts": "sts",
}

OTHERWISE_NAMED = {"budgets:DescribeBudgets": "budgets:ViewBudget"}
"""Operations whose IAM action has another name."""

# Verbs that only operators run, with their own permissions.
NOT_IN_THE_PIPELINE = {
    "secretsmanager:PutSecretValue": "./alva secrets",
    "secretsmanager:UpdateSecretVersionStage": "./alva secrets",
}

# Calls of the pipeline outside the engine.
NOT_IN_THE_ENGINE = {
    "ecr:BatchCheckLayerAvailability": "docker push",
    "ecr:CompleteLayerUpload": "docker push",
    "ecr:InitiateLayerUpload": "docker push",
    "ecr:UploadLayerPart": "docker push",
    "iam:PassRole": "ecs:RunTask hands the migration its roles",
}

# The modules of these verbs: bootstrap, destroy, sleep and wake, the restart after a secret was set, a shell in a task.
OPERATOR_MODULES = {"bootstrap.py", "exec.py", "teardown.py", "hibernation.py", "restart.py", "rotation.py"}
ROLES_OF_THE_BOOTSTRAP = {"deployer": "DeploymentActionRole", "publisher": "FilePublishingRoleDefaultPolicy"}
"""Name of a role in the engine -> its resource in CDK's template."""


def calls_of_the_engine(who: str | None = None) -> set[str]:
    """Every call of AWS in the release engine, as IAM names it: `self._aws.ecs.run_task(...)`, or a page of one.

    `who`: the role of the bootstrap, as in `roles.deployer.cloudformation.delete_stack(...)`; otherwise the caller's
    role.
    """
    return {OTHERWISE_NAMED.get(action, action) for action, role in _calls_and_roles() if role == who}


@functools.cache
def _calls_and_roles() -> set[tuple[str, str | None]]:
    found = set()
    tool = REPOSITORY / "src" / "alva"
    files = [tool / "aws.py", *(tool / "release").rglob("*.py"), tool / "cli" / "docker_builder.py"]
    assert {file.name for file in files} >= OPERATOR_MODULES, "a module was renamed"
    for file in (file for file in files if file.name not in OPERATOR_MODULES):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Attribute) and (service := client_name(node.func.value)):
                found.add((service, node.func.attr, role_of(node.func.value)))
            for client, operation in itertools.pairwise(node.args):
                if (service := client_name(client)) and isinstance(operation, ast.Constant):
                    found.add((service, str(operation.value), role_of(client)))
    session = cast(Any, boto3.session.Session(region_name="us-east-1"))
    operations = {service: session.client(CLIENTS.get(service, service)).meta for service, _, _ in found}
    return {
        (f"{IAM_PREFIXES[service]}:{operations[service].method_to_api_mapping[operation]}", role)
        for service, operation, role in found
        if operation in operations[service].method_to_api_mapping
    }


def client_name(node: ast.expr) -> str | None:
    """`aws.ecs`, a local `ecs`, `aws.client("ecs")` -> "ecs"."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "client":
        first = node.args[0] if node.args else None
        name = str(first.value) if isinstance(first, ast.Constant) else ""
    else:
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name if name in IAM_PREFIXES else None


def role_of(node: ast.expr) -> str | None:
    """`roles.deployer.cloudformation` -> "deployer"."""
    names = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    names |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return next((name for name in ROLES_OF_THE_BOOTSTRAP if name in names), None)


IMPLIED = {
    "iam:PassRole": "RunTask hands the task its roles",
    "cloudformation:DetectStackResourceDrift": "DetectStackDrift asks for it, resource by resource",
    "logs:TagResource": "CreateLogGroup with tags",
}
"""Actions that calls of the engine need in addition to the one with their name."""


def test_pipeline_has_exactly_the_permissions_that_the_engine_needs(staging: Any) -> None:
    needed = calls_of_the_engine()
    assert {"cloudformation:DescribeStacks", "ecs:RunTask", "ssm:PutParameter"} <= needed, "no calls were found"
    allowed = {action for statement in statements(staging) for action in statement["Action"]}
    pushes = {action for statement in statements(staging, "build") for action in statement["Action"]}
    assert needed - (allowed | pushes) - set(NOT_IN_THE_PIPELINE) == set()
    assert allowed - needed == set(IMPLIED), "least privilege"
    assert pushes - needed == set(NOT_IN_THE_ENGINE) - {"iam:PassRole"}, "least privilege"


@pytest.mark.parametrize("who", sorted(ROLES_OF_THE_BOOTSTRAP))
def test_roles_of_the_bootstrap_have_the_permissions_that_the_engine_needs(who: str) -> None:
    """According to the template of `cdk bootstrap` in the pinned version of the CLI."""
    template = yaml.safe_load(
        (REPOSITORY / "node_modules/aws-cdk/lib/api/bootstrap/bootstrap-template.yaml").read_text()
    )
    properties = template["Resources"][ROLES_OF_THE_BOOTSTRAP[who]]["Properties"]
    documents = [properties[key] for key in ("PolicyDocument",) if key in properties]
    documents += [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
    allowed: list[str] = []
    for statement in (statement for document in documents for statement in document["Statement"]):
        allowed += [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
    needed = calls_of_the_engine(who)
    assert needed
    assert [action for action in needed if not any(fnmatch.fnmatchcase(action, each) for each in allowed)] == []


def test_pipeline_role_may_use_the_engines_ledger_and_lock(staging: Any) -> None:
    (statement,) = [each for each in statements(staging) if "ssm:PutParameter" in each["Action"]]
    pattern = text(statement["Resource"]).rpartition(":")[2]
    kept = staging.manifest["parameters"].values()
    assert len(kept) == 5
    for name in kept:
        arn = f"parameter{name}"
        assert fnmatch.fnmatchcase(arn, pattern), arn
