"""An empty account is prepared once, with CDK's bootstrap and the other requirements of a first release."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lib.config.services import SERVICES

from alva.aws import Aws, Target
from alva.release.bootstrap import create_bootstrap
from alva.release.bootstrap_roles import bootstrap_roles_of
from tests.conftest import RunningRegion, running_region

from .conftest import PROJECT, Rehearsal


@pytest.fixture
def account(tmp_path: Path) -> Iterator[RunningRegion]:
    """A region without any resource."""
    with running_region(tmp_path / "home") as region:
        yield region


def alva(region: RunningRegion, *arguments: str, standard_input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "alva", *arguments],
        env={
            **os.environ,
            "ALVA_HOME": str(region.config.home),
            "ALVA_API_PORT": str(region.config.api_port),
            "PYTHONPATH": str(PROJECT / "src"),
        },
        input=standard_input,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def bootstrap(region: RunningRegion) -> dict[str, Any]:
    ended = alva(region, "bootstrap", "--yes", "--json")
    assert ended.returncode == 0, ended.stderr
    said: dict[str, Any] = json.loads(ended.stdout)
    return said


def test_empty_account_is_prepared_once(account: RunningRegion) -> None:
    bucket = "cdk-hnb659fds-assets-000000000000-us-east-1"
    account.client("s3").create_bucket(Bucket=bucket)
    refused = alva(account, "bootstrap", "--yes", "--json")
    assert refused.returncode == 3, refused.stderr
    assert f"s3://{bucket} exists, and the stack CDKToolkit does not" in refused.stderr
    account.client("s3").delete_bucket(Bucket=bucket)

    said = bootstrap(account)
    assert (said["repository"], said["branch"]) == (None, "staging"), "a local region needs no repository"
    assert {name: arn.rpartition(":")[2] for name, arn in said["variables"].items()} == {
        "AWS_ROLE_ARN": "role/alva-staging-deploy",
        "AWS_BUILD_ROLE_ARN": "role/alva-staging-build",
    }
    version = account.client("ssm").get_parameter(Name="/cdk-bootstrap/hnb659fds/version")["Parameter"]["Value"]
    assert int(version) >= 6
    repositories = account.client("ecr").describe_repositories()["repositories"]
    assert {each["repositoryName"] for each in repositories} >= {"alva-web", "alva-api", "alva-auth", "alva-admin"}
    roles = account.client("iam").list_roles()["Roles"]
    assert "alva-staging-deploy" in {each["RoleName"] for each in roles}
    assert {f"/aws-service-role/{service}.amazonaws.com/" for service in ("ecs", "rds", "elasticache")} <= {
        each["Path"] for each in roles
    }

    events = account.client("cloudformation").describe_stack_events(StackName="CDKToolkit")["StackEvents"]
    assert bootstrap(account) == said
    assert account.client("cloudformation").describe_stack_events(StackName="CDKToolkit")["StackEvents"] == events


def test_account_of_a_region_that_is_up_is_prepared_already(rehearsal: Rehearsal) -> None:
    stacks = rehearsal.client("cloudformation").describe_stacks()["Stacks"]
    again = rehearsal.alva("bootstrap", "--yes")
    assert again.returncode == 0, again.stderr
    assert "gh variable set AWS_ROLE_ARN --repo OWNER/NAME --body arn:aws:iam::" in again.stdout
    assert "gh variable set AWS_BUILD_ROLE_ARN --repo OWNER/NAME --body arn:aws:iam::" in again.stdout
    after = rehearsal.client("cloudformation").describe_stacks()["Stacks"]
    assert [(s["StackId"], s.get("LastUpdatedTime")) for s in after] == [
        (s["StackId"], s.get("LastUpdatedTime")) for s in stacks
    ]


@pytest.mark.nightly
def test_first_deploy_works_with_the_readmes_steps(account: RunningRegion) -> None:
    bootstrap(account)
    checked = alva(account, "preflight")
    assert checked.returncode == 0, checked.stdout
    unset = alva(account, "deploy", "--yes")
    assert unset.returncode == 3, unset.stderr
    assert "secrets are not set" in unset.stderr
    assert "next: ./alva secrets init" in unset.stderr
    assert alva(account, "secrets", "init").returncode == 0
    for name in ("openai-api-key", "resend-api-key"):
        assert alva(account, "secrets", "set", name, standard_input="a-key-of-ones-own\n").returncode == 0
    deployed = alva(account, "deploy", "--yes", "--json")
    assert deployed.returncode == 0, deployed.stderr
    assert len(json.loads(deployed.stdout)["digests"]) == len(SERVICES)
    verified = alva(account, "verify")
    assert verified.returncode == 0, verified.stdout
    stacks = account.client("cloudformation").describe_stacks()["Stacks"]
    assert {stack["StackStatus"] for stack in stacks} == {"CREATE_COMPLETE"}, "nothing was changed twice"


@pytest.mark.nightly
def test_bucket_left_by_an_earlier_bootstrap_does_not_stop_a_region_from_starting(account: RunningRegion) -> None:
    bucket = "cdk-hnb659fds-assets-000000000000-us-east-1"
    account.client("s3").create_bucket(Bucket=bucket)
    account.client("s3").put_object(Bucket=bucket, Key="alva/old.json", Body=b"{}")
    aws = Aws(Target.local(account.config.endpoint_url))
    template = (PROJECT / "node_modules/aws-cdk/lib/api/bootstrap/bootstrap-template.yaml").read_text()
    assert create_bootstrap(aws, template, lambda _line: None) is True
    roles = bootstrap_roles_of(aws)
    assert roles.version is not None
    assert roles.deployer.sts.get_caller_identity()["Arn"].split("/")[1].startswith("cdk-hnb659fds-deploy")
    assert create_bootstrap(aws, template, lambda _line: None) is False
