"""A new account's first bootstrap uses roles that have not propagated yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from alva.aws import Aws
from alva.errors import AlvaError, PreflightRefused
from alva.release import bootstrap
from alva.release.bootstrap_roles import bootstrap_roles_of
from alva.release.manifest import Manifest
from alva.release.stacks import Stacks


@pytest.fixture
def refusals(aws: Aws, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Make AssumeRole in a bootstrapped account return these errors, in order, before it succeeds."""
    template = {"Resources": {"R": {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": "x"}}}}
    (tmp_path / f"{manifest.prefix}-registry.template.json").write_text(json.dumps(template))
    monkeypatch.setattr(bootstrap, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(bootstrap_roles_of(aws), "version", 30)
    monkeypatch.setattr(bootstrap_roles_of(aws), "handed", {})
    waiting: list[Exception] = []

    def refuse(**_: object) -> None:
        if waiting:
            raise waiting.pop(0)

    aws.sts.meta.events.register("before-call.sts.AssumeRole", refuse)
    return waiting


def denied(code: str = "AccessDenied", message: str = "not authorized to perform: sts:AssumeRole") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "AssumeRole")


def test_new_role_is_retried(aws: Aws, manifest: Manifest, refusals: list[Exception]) -> None:
    (stack,) = manifest.stacks_of("registry")
    refusals += [denied(), denied(), denied("ValidationError", "Role arn:... is invalid or cannot be assumed")]
    lines: list[str] = []
    assert bootstrap.apply(aws, manifest, stack, lines.append, patience_seconds=60)
    assert Stacks(aws).observe(stack.name) is not None
    assert [line for line in lines if "trying again" in line] == [lines[0]] * 3


def test_role_of_an_account_that_was_bootstrapped_before_is_refused_at_once(
    aws: Aws, manifest: Manifest, refusals: list[Exception]
) -> None:
    (stack,) = manifest.stacks_of("registry")
    refusals += [denied()]
    with pytest.raises(PreflightRefused, match="cannot assume cdk-hnb659fds-deploy-role"):
        bootstrap.apply(aws, manifest, stack, lambda _: None)


def test_another_error_is_not_retried(aws: Aws, manifest: Manifest, refusals: list[Exception]) -> None:
    (stack,) = manifest.stacks_of("registry")
    refusals += [denied("RegionDisabledException", "STS is not activated in this region")]
    with pytest.raises(AlvaError, match="cannot assume"):
        bootstrap.apply(aws, manifest, stack, lambda _: None, patience_seconds=60)
    assert refusals == []
