"""Prepares an AWS account once: what `cdk bootstrap` makes, service-linked roles, the pipeline's role, repositories.

An administrator runs it; afterwards a release needs none. Everything is looked for before it is made, so that it can be
repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alva.aws import Aws, error_code, explained
from alva.errors import PreflightRefused
from alva.release.manifest import Manifest, Stack
from alva.release.preflight import BOOTSTRAP_PARAMETER
from alva.release.stacks import Stacks

Line = Callable[[str], None]

GITHUB = "token.actions.githubusercontent.com"

SERVICE_LINKED_ROLES = (
    "ecs.amazonaws.com",
    "elasticloadbalancing.amazonaws.com",
    "rds.amazonaws.com",
    "elasticache.amazonaws.com",
)
"""AWS makes each at the first use of its service, and that first use, in a new account, often fails for lack of it.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using-service-linked-roles.html
"""


@dataclass(frozen=True, kw_only=True)
class Account:
    """What there is before anything is made."""

    id: str
    arn: str
    """Who is signed in."""
    bootstrap_version: int | None
    github_provider_arn: str | None


def look(aws: Aws) -> Account:
    """Look at the account; raises PreflightRefused without credentials."""
    with explained("find out which AWS account this is"):
        identity = aws.sts.get_caller_identity()
    with explained("look for GitHub's OIDC provider"):
        providers = aws.client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
    return Account(
        id=identity["Account"],
        arn=identity["Arn"],
        bootstrap_version=bootstrap_version(aws),
        github_provider_arn=next((p["Arn"] for p in providers if p["Arn"].endswith(f"/{GITHUB}")), None),
    )


def bootstrap_version(aws: Aws) -> int | None:
    """Which version of `cdk bootstrap` the account has; None where it never ran."""
    with explained("look whether the account is bootstrapped"):
        try:
            return int(aws.ssm.get_parameter(Name=BOOTSTRAP_PARAMETER)["Parameter"]["Value"])
        except Exception as error:
            if error_code(error) == "ParameterNotFound":
                return None
            raise


def cdk_command(account: str, region: str, tags: dict[str, str]) -> tuple[str, ...]:
    """The arguments of `cdk` that bootstrap the account: everything private, encrypted, and kept from deletion."""
    command = ["bootstrap", f"aws://{account}/{region}", "--public-access-block-configuration", "true"]
    for key, value in sorted(tags.items()):
        command += ["--tags", f"{key}={value}"]
    return (*command, "--termination-protection", "true")


def refuse_second_provider(aws: Aws, manifest: Manifest, account: Account) -> None:
    """Raise PreflightRefused where the account has GitHub's provider from elsewhere: it can have only one."""
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
    """Make those that the account lacks; the services whose role was made."""
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
    """The stacks that the pipeline's first run needs: its role, and the repositories that it pushes to."""
    return (*manifest.stacks_of("registry"), manifest.stack("cicd"))


def apply(aws: Aws, manifest: Manifest, stack: Stack, line: Line) -> bool:
    """Bring one of the first stacks to its template; True if anything changed."""
    return Stacks(aws).apply(stack.name, stack.template(), {}, manifest.tags, line)


def deploy_role_arn(aws: Aws, manifest: Manifest) -> str:
    """What the workflow assumes."""
    stack = Stacks(aws).observe(manifest.stack("cicd").name, with_template=False)
    return stack.outputs.get("DeployRoleArn", "") if stack is not None else ""
