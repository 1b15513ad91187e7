"""Checks before the first change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.stub import Stubber

from alva.aws import Aws, Target
from alva.errors import PreflightRefused
from alva.release import preflight
from alva.release.manifest import Manifest
from alva.release.observation import _template as template_of
from alva.release.plan import ApplyStack, Observed, Plan, Wanted
from alva.release.preflight import Preflight, rule_verdict
from alva.release.refusals import exports_in_use, refuse_unset_settings
from alva.release.request import Request
from alva.release.secrets import Secrets, SecretStatus, State
from alva.release.stack_state import Action, ObservedStack
from alva.release.verify import Verdict

from .conftest import manifest_values


def exporting(*names: str) -> dict[str, Any]:
    return {"Outputs": {f"O{i}": {"Value": "x", "Export": {"Name": name}} for i, name in enumerate(names)}}


def importing(name: str) -> dict[str, Any]:
    return {"Resources": {"R": {"Properties": {"List": [{"Fn::Join": ["", [{"Fn::ImportValue": name}]]}]}}}}


def test_export_in_use_cannot_be_removed(manifest: Manifest) -> None:
    network, ecs = manifest.stack("network"), manifest.stack("ecs")
    observed = Observed(
        stacks={
            network.name: ObservedStack(name=network.name, status="UPDATE_COMPLETE", template=exporting("vpc", "zone")),
            ecs.name: ObservedStack(name=ecs.name, status="UPDATE_COMPLETE", template=importing("vpc")),
        }
    )
    step = ApplyStack(key="network", title="network", stack=network, action=Action.UPDATE)

    def used(*kept: str) -> list[str]:
        wanted = Wanted(manifest=manifest, templates={network.name: exporting(*kept)}, digests={})
        return exports_in_use(wanted, observed, Plan(steps=(step,)))

    assert used("zone") == [f"{network.name} no longer exports vpc, but {ecs.name} import it"]
    assert used("vpc") == []
    assert used("vpc", "more") == []


def test_empty_account_shows_what_the_first_release_creates(aws: Aws, manifest: Manifest) -> None:
    for stack in manifest.stacks:
        stack.template_file.write_text('{"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}')
    missing = "sha256:" + "0" * 64
    results = Preflight(
        aws=aws,
        manifest=manifest,
        digests={"web": missing},
        findings={"good-rule": [], "bad-rule": ["stack/Thing: is wrong"]},
    ).run()
    found = {result.name: result for result in results}
    assert found["credentials"].verdict is Verdict.OK
    assert found["services run"].verdict is Verdict.SKIP
    assert found["secrets are set"].verdict is Verdict.SKIP
    assert found["rule good-rule"].verdict is Verdict.OK
    assert (found["rule bad-rule"].verdict, found["rule bad-rule"].reason) == (Verdict.FAIL, "stack/Thing: is wrong")
    assert found["images exist"].verdict is Verdict.FAIL
    assert missing in found["images exist"].reason


def test_finding_of_a_rule_warns_when_its_kind_is_allowed() -> None:
    assert rule_verdict("rule", ["stack/Thing: is wrong"])[0] is Verdict.FAIL
    assert rule_verdict("rule", ["stack/Thing: is wrong"], is_allowed=True)[0] is Verdict.WARN


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        ((State.SET, State.SET), Verdict.OK),
        ((State.MISSING, State.MISSING), Verdict.SKIP),
        ((State.SET, State.MISSING), Verdict.WARN),
        ((State.UNSET, State.MISSING), Verdict.WARN),
        ((State.SET, State.UNSET), Verdict.FAIL),
        ((State.SET, State.MALFORMED), Verdict.FAIL),
    ],
)
def test_release_that_creates_a_secret_is_not_refused(
    monkeypatch: pytest.MonkeyPatch, states: tuple[State, State], verdict: Verdict
) -> None:
    """As in `refusals.refuse`: a push that adds a secret must be able to create it."""
    manifest = Manifest.from_values(manifest_values("t"), Path("/nowhere"))
    secret = replace(manifest.secrets[0], used_by=("api",))
    statuses = [SecretStatus(secret=secret, state=state) for state in states]
    monkeypatch.setattr(Secrets, "check", lambda _: statuses)
    checks = Preflight(aws=Aws(Target.local("http://127.0.0.1:9")), manifest=manifest, digests={})
    assert checks._secrets()[0] is verdict


@pytest.mark.parametrize(("version", "verdict"), [(None, "SKIP"), (22, "FAIL"), (23, "OK")])
def test_bootstrap_must_have_roles_that_continue_a_stuck_rollback(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, version: int | None, verdict: str
) -> None:
    for stack in manifest.stacks:
        stack.template_file.write_text('{"Resources": {}}')
    roles = SimpleNamespace(version=version, deployer=None, publisher=None)
    monkeypatch.setattr(preflight, "bootstrap_roles_of", lambda _: roles)
    checks = Preflight(aws=Aws(Target.local("http://127.0.0.1:9")), manifest=manifest, digests={})
    assert checks._bootstrap()[0].value == verdict


def test_rollback_releases_the_deployed_templates(manifest: Manifest) -> None:
    network = manifest.stack("network")
    network.template_file.write_text(json.dumps(exporting("new")))
    deployed = ObservedStack(name=network.name, status="UPDATE_COMPLETE", template=exporting("old"))
    observed = Observed(stacks={network.name: deployed})
    assert template_of(network, observed, Request(digests={}, commit="", keeps_templates=True)) == exporting("old")
    assert template_of(network, observed, Request(digests={}, commit="")) == exporting("new")


def scanned(**told: object) -> tuple[Verdict, str]:
    """The result of preflight for two images: `api` has no severe finding, `web` has the given ones."""
    aws = Aws(Target.local("http://127.0.0.1:9"))
    manifest = Manifest.from_values(manifest_values("t"), Path("/nowhere"))
    digests = {"api": "sha256:" + "a" * 64, "web": "sha256:" + "b" * 64}
    images = {
        "api": {"imageScanStatus": {"status": "COMPLETE"}, "imageScanFindingsSummary": {"findingSeverityCounts": {}}},
        "web": told,
    }
    with Stubber(aws.ecr) as ecr:
        for name, digest in digests.items():
            for _ in range(2):  # whether it exists, and its findings
                ecr.add_response("describe_images", {"imageDetails": [{"imageDigest": digest, **images[name]}]})
        return Preflight(aws=aws, manifest=manifest, digests=digests)._scans()


def test_severe_findings_and_unscanned_images_are_reported() -> None:
    complete = {"status": "COMPLETE"}
    counts = {"findingSeverityCounts": {"CRITICAL": 2, "HIGH": 1, "LOW": 9}}
    assert scanned(imageScanStatus=complete, imageScanFindingsSummary=counts) == (
        Verdict.WARN,
        "web: 2 CRITICAL, web: 1 HIGH",
    )
    assert scanned(imageScanStatus=complete, imageScanFindingsSummary={}) == (Verdict.OK, "2 images")
    assert scanned() == (Verdict.WARN, "web: never scanned")
    unsupported = {"status": "UNSUPPORTED_IMAGE", "description": "The operating system is not supported"}
    assert scanned(imageScanStatus=unsupported) == (Verdict.WARN, "web: The operating system is not supported")


def test_aws_is_refused_while_a_setting_that_it_needs_is_missing() -> None:
    values = {**manifest_values("t"), "unset_settings": {"pipeline.repository": "the repository, OWNER/NAME"}}
    missing = Manifest.from_values(values, Path("/nowhere"))
    refuse_unset_settings(Manifest.from_values(manifest_values("t"), Path("/nowhere")))
    with pytest.raises(PreflightRefused) as refused:
        refuse_unset_settings(missing)
    assert refused.value.evidence == ("pipeline.repository: expected the repository, OWNER/NAME",)
