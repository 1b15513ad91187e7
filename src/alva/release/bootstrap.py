"""Prepares an AWS account once: `cdk bootstrap`, service-linked roles, the pipeline's role, repositories.

An administrator runs it; a release then needs no administrator. Each part is created only if it is missing, so the
command can be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alva.aws import Aws, error_code, explained
from alva.errors import AlvaError, PreflightRefused
from alva.release import bootstrap_roles
from alva.release.bootstrap_roles import bootstrap_roles_of
from alva.release.manifest import Manifest, Stack
from alva.release.stacks import Stacks
from alva.release.teardown import empty_bucket

Line = Callable[[str], None]

GITHUB = "token.actions.githubusercontent.com"

SERVICE_LINKED_ROLES = (
    "ecs.amazonaws.com",
    "elasticloadbalancing.amazonaws.com",
    "rds.amazonaws.com",
    "elasticache.amazonaws.com",
)
"""AWS creates each role at the first use of its service; in a new account, that first use often fails because the role
is missing.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using-service-linked-roles.html
"""


@dataclass(frozen=True, kw_only=True)
class Account:
    """The account before the first change."""

    id: str
    arn: str
    """The caller's ARN."""
    bootstrap_version: int | None
    github_provider_arn: str | None


def read_account(aws: Aws) -> Account:
    """Read the account; raises PreflightRefused without credentials."""
    with explained("find out which AWS account this is"):
        identity = aws.sts.get_caller_identity()
    with explained("look for GitHub's OIDC provider"):
        providers = aws.client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
    return Account(
        id=identity["Account"],
        arn=identity["Arn"],
        bootstrap_version=bootstrap_roles.version(aws),
        github_provider_arn=next((p["Arn"] for p in providers if p["Arn"].endswith(f"/{GITHUB}")), None),
    )


BOOTSTRAP_PARAMETERS = {"FileAssetsBucketKmsKeyId": "AWS_MANAGED_KEY", "PublicAccessBlockConfiguration": "true"}
"""The parameters that the CDK CLI uses without a customer managed key."""


def create_bootstrap(aws: Aws, template: str, line: Line) -> bool:
    """Create the stack of `cdk bootstrap` from CDK's template; False if the account has it already.

    Only for an account without other users, such as a local region's: a bucket that an earlier bootstrap left behind is
    deleted with its templates, which are uploaded again when they are needed.
    """
    if bootstrap_roles.version(aws) is not None:
        return False
    # A separate client: `aws` caches the bootstrap, and must find the one that is created here.
    own = Aws(aws.target, aws.poll)
    if (bucket := _leftover_bucket(own)) is not None:
        line(f"deleting bucket {bucket}, which an earlier bootstrap left behind")
        empty_bucket(own, bucket)
        with explained(f"delete bucket {bucket}"):
            own.s3.delete_bucket(Bucket=bucket)
    Stacks(own).create_as_written(bootstrap_roles.STACK, template, BOOTSTRAP_PARAMETERS, line)
    return True


def refuse_leftover_bucket(aws: Aws, account: Account) -> None:
    """Raise PreflightRefused where the bucket of a deleted bootstrap still exists: `cdk bootstrap` would fail."""
    if account.bootstrap_version is None and (bucket := _leftover_bucket(aws)) is not None:
        raise PreflightRefused(
            f"cannot bootstrap account {account.id}: an earlier bootstrap left its bucket behind",
            evidence=[f"s3://{bucket} exists, and the stack {bootstrap_roles.STACK} does not"],
            next_step=f"aws s3 rb s3://{bucket} --force, if nothing else uses it; then ./alva bootstrap again",
        )


def _leftover_bucket(aws: Aws) -> str | None:
    """Return the bootstrap's bucket if it exists, in an account without a bootstrap."""
    bucket = bootstrap_roles_of(aws).bucket
    with explained(f"look for bucket {bucket}"):
        try:
            aws.s3.head_bucket(Bucket=bucket)
        except Exception as error:
            if error_code(error) in ("404", "NoSuchBucket", "NotFound"):
                return None
            raise
    return bucket


def cdk_command(account: str, region: str, tags: dict[str, str]) -> tuple[str, ...]:
    """Return the arguments of `cdk bootstrap`: a private, encrypted bucket, and a stack with termination protection."""
    command = ["bootstrap", f"aws://{account}/{region}", "--public-access-block-configuration", "true"]
    for key, value in sorted(tags.items()):
        command += ["--tags", f"{key}={value}"]
    return (*command, "--termination-protection", "true")


def refuse_second_provider(aws: Aws, manifest: Manifest, account: Account) -> None:
    """Raise PreflightRefused where another stack owns GitHub's OIDC provider: an account can have only one."""
    if account.github_provider_arn is None:
        return
    stack = manifest.stack("cicd")
    template = stack.template()
    makes_one = any(r["Type"] == "AWS::IAM::OIDCProvider" for r in template["Resources"].values())
    if makes_one and Stacks(aws).observe(stack.name, with_template=False) is None:
        raise PreflightRefused(
            "cannot make GitHub's OIDC provider: the account has one, and can have only one",
            evidence=[account.github_provider_arn],
            next_step=f'set pipeline.oidc_provider_arn="{account.github_provider_arn}" for this environment in '
            "infrastructure/lib/config/environments.py",
        )


def make_service_linked_roles(aws: Aws, line: Line) -> list[str]:
    """Create the missing service-linked roles; return the services whose role was created."""
    iam: Any = aws.client("iam")
    made = []
    for service in SERVICE_LINKED_ROLES:
        with explained(f"make the service-linked role of {service}"):
            try:
                iam.create_service_linked_role(AWSServiceName=service)
            except Exception as error:
                # InvalidInput: "Service role name AWSServiceRoleFor... has been taken in this account"
                if error_code(error) not in ("InvalidInput", "EntityAlreadyExists"):
                    raise
                continue
        line(f"made the service-linked role of {service}")
        made.append(service)
    return made


def first_stacks(manifest: Manifest) -> tuple[Stack, ...]:
    """Return the stacks that the pipeline's first run needs: its role, and the repositories."""
    return (*manifest.stacks_of("registry"), manifest.stack("cicd"))


IAM_SECONDS = 60.0
"""How long AWS can refuse a new role: IAM is eventually consistent.

https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency
"""

PAUSE_SECONDS = 5.0

_UNKNOWN_ROLE = "cannot be assumed"
"""CloudFormation's message for a role that IAM does not know yet: "Role ... is invalid or cannot be assumed"."""


def apply(aws: Aws, manifest: Manifest, stack: Stack, line: Line, *, patience_seconds: float = 0.0) -> bool:
    """Bring one of the first stacks to its template; True if anything changed.

    A refused role is retried for `patience_seconds` (IAM_SECONDS after the roles were created).
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return Stacks(aws).apply(stack.name, stack.template(), {}, manifest.tags, line)
        except AlvaError as error:
            if not _is_propagating(error) or time.monotonic() >= deadline:
                raise
            line("a new role has not propagated yet: trying again")
            aws.poll.pause(PAUSE_SECONDS)


def _is_propagating(error: BaseException | None) -> bool:
    """Whether the error means that a new role has not propagated yet."""
    while error is not None:
        if isinstance(error, Exception) and (error_code(error) == "AccessDenied" or _UNKNOWN_ROLE in str(error)):
            return True
        error = error.__cause__
    return False


def workflow_variables(aws: Aws, manifest: Manifest) -> dict[str, str]:
    """Return the variables of GitHub's workflow -> the ARN of the role that its jobs assume."""
    stack = Stacks(aws).observe(manifest.stack("cicd").name, with_template=False)
    outputs = stack.outputs if stack is not None else {}
    return {
        "AWS_ROLE_ARN": outputs.get("DeployRoleArn", ""),
        "AWS_BUILD_ROLE_ARN": outputs.get("BuildRoleArn", ""),
    }
