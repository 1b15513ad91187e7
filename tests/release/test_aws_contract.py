"""Checks the engine's AWS calls with two independent implementations: moto's server, and botocore's service models.

moto implements AWS's API independently of the local region; what it lacks (service deployments, imports into stacks) is
covered by the region's tests. botocore's models check each call in the sources: it exists, has no unknown argument, and
has all required ones.
"""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from alva.aws import Aws, Poll, Target
from alva.errors import Locked, PreflightRefused
from alva.release import bootstrap, bootstrap_roles
from alva.release.images import is_published, mark_released
from alva.release.ledger import Ledger, Release
from alva.release.lock import Lock
from alva.release.manifest import Manifest
from alva.release.quotas import QUOTAS
from alva.release.secret_audit import SecretAudit
from alva.release.secrets import UNSET, Secrets
from alva.release.stacks import Stacks
from alva.release.teardown import Kind, Resource, forget
from tests.ports import free_port
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of moto's server."""
    port = free_port()
    project = ROOT / "tools" / "moto"
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "sync", "--quiet", "--frozen", "--project", project], check=True)
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [project / ".venv" / "bin" / "moto_server", "-H", "127.0.0.1", "-p", str(port)],
            env={**os.environ, "MOTO_ACCOUNT_ID": "123456789012"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    try:
        until(listens, "moto's server to listen")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def aws(moto: str) -> Aws:
    return Aws(Target.local(moto), Poll(shortest_seconds=0.02, longest_seconds=0.1))


def template(**parameters: str) -> dict[str, Any]:
    """A stack with one SSM parameter."""
    return {
        "Resources": {
            "Parameter": {
                "Type": "AWS::SSM::Parameter",
                "Properties": {"Type": "String", "Name": parameters["name"], "Value": parameters["value"]},
            }
        },
        "Outputs": {"Name": {"Value": {"Ref": "Parameter"}}},
    }


def test_stack_is_created_updated_left_alone_and_deleted(aws: Aws, name: str) -> None:
    stacks = Stacks(aws)
    lines: list[str] = []
    tags = {"Project": "alva"}
    first, second = template(name=name, value="1"), template(name=name, value="2")
    assert stacks.apply(name, first, {}, tags, lines.append)
    assert stacks.apply(name, first, {}, tags, lines.append) is False
    assert stacks.apply(name, second, {}, tags, lines.append)
    assert aws.ssm.get_parameter(Name=name)["Parameter"]["Value"] == "2"
    observed = stacks.observe(name)
    assert observed is not None
    assert observed.template == second
    stacks.delete(name, lines.append)
    assert stacks.observe(name) is None


def test_lock_is_atomic_and_names_its_holder(aws: Aws, manifest: Manifest) -> None:
    lock = Lock(aws, manifest)
    with lock.held("one", lambda _note: None):
        with (
            pytest.raises(Locked, match="somebody else holds the lock"),
            Lock(aws, manifest).held("two", lambda _n: None),
        ):
            pass
        holder = lock.holder()
        assert holder is not None
        assert holder.what == "one"
    assert lock.holder() is None


def test_ledger_numbers_releases_by_the_parameters_versions(aws: Aws, manifest: Manifest) -> None:
    ledger = Ledger(aws, manifest)
    assert ledger.latest() is None
    for commit in ("a", "b"):
        ledger.record(Release(commit=commit, digests={}, by="me", started_at="2026-01-01T00:00:00+00:00", seconds=1))
    assert [(each.number, each.commit) for each in ledger.history()] == [(2, "b"), (1, "a")]


def test_secrets_are_created_set_checked_and_audited(aws: Aws, manifest: Manifest) -> None:
    for secret in manifest.secrets:
        aws.secretsmanager.create_secret(Name=secret.name, SecretString=UNSET)
    secrets = Secrets(aws, manifest)
    with pytest.raises(PreflightRefused):
        secrets.require()
    secrets.initialise()
    secrets.assign("openai-api-key", "sk-given")
    secrets.require()
    assert SecretAudit(aws, manifest).history()[0].secret.endswith("-openai-api-key")


def test_missing_image_is_distinguished_from_an_error(aws: Aws, name: str) -> None:
    digest = "sha256:" + "0" * 64
    assert is_published(aws, name, digest) is False
    aws.ecr.create_repository(repositoryName=name)
    assert is_published(aws, name, digest) is False


def test_released_image_gets_another_tag_where_tags_are_immutable(aws: Aws, name: str) -> None:
    aws.ecr.create_repository(repositoryName=name, imageTagMutability="IMMUTABLE")
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "config": {"size": 2}, "layers": [{"digest": "sha256:0"}]}
    )
    made = aws.ecr.put_image(
        repositoryName=name, imageManifest=manifest, imageManifestMediaType=kind, imageTag="built"
    )["image"]["imageId"]["imageDigest"]
    for _ in range(2):
        assert mark_released(aws, name, made, 3, is_new=True) == "released-3"
    (image,) = aws.ecr.describe_images(repositoryName=name)["imageDetails"]
    assert (image["imageDigest"], sorted(image["imageTags"])) == (made, ["built", "released-3"])


def test_retained_resources_are_deleted_permanently_and_deleting_twice_is_no_error(aws: Aws, name: str) -> None:
    aws.ecr.create_repository(repositoryName=name)
    arn = aws.secretsmanager.create_secret(Name=name, SecretString="x")["ARN"]
    kept = [
        Resource(stack="s", type="AWS::ECR::Repository", name=name),
        Resource(stack="s", type="AWS::SecretsManager::Secret", name=arn),
    ]
    for _ in range(2):
        forget(aws, kept, frozenset({Kind.IMAGES, Kind.SECRETS}), lambda _line: None)
    assert name not in {each["repositoryName"] for each in aws.ecr.describe_repositories()["repositories"]}
    assert aws.secretsmanager.create_secret(Name=name, SecretString="y")["Name"] == name


def test_empty_account_is_recognised_and_its_roles_are_created_once(aws: Aws) -> None:
    account = bootstrap.read_account(aws)
    assert account.id == "123456789012"
    assert account.bootstrap_version is None
    assert account.github_provider_arn is None
    assert "ecs.amazonaws.com" in bootstrap.make_service_linked_roles(aws, lambda _line: None)
    assert bootstrap.make_service_linked_roles(aws, lambda _line: None) == []


def test_bootstrapped_account_is_worked_with_as_its_roles(aws: Aws, name: str) -> None:
    aws.ssm.put_parameter(Name=bootstrap_roles.VERSION_PARAMETER, Value="33", Type="String")
    try:
        Stacks(aws).apply(name, template(name=name, value="1"), {}, {}, lambda _line: None)
        found = bootstrap_roles.bootstrap_roles_of(aws)
        assert found.version == 33
    finally:
        aws.ssm.delete_parameter(Name=bootstrap_roles.VERSION_PARAMETER)
    role = "cdk-hnb659fds-{}-role-123456789012-us-east-1"
    (stack,) = aws.cloudformation.describe_stacks(StackName=name)["Stacks"]
    assert stack["RoleARN"] == f"arn:aws:iam::123456789012:role/{role.format('cfn-exec')}"
    for who, kind in ((found.deployer, "deploy"), (found.publisher, "file-publishing")):
        assert f":assumed-role/{role.format(kind)}/alva-" in who.sts.get_caller_identity()["Arn"]


def test_network_quotas_have_the_expected_codes(aws: Aws) -> None:
    names = {}
    for quota in QUOTAS:
        if quota.service_code == "vpc":  # moto has only this service's quotas
            found = aws.client("service-quotas").get_service_quota(ServiceCode="vpc", QuotaCode=quota.code)["Quota"]
            names[quota.name] = (found["QuotaName"], found["Value"])
    assert names == {
        "VPCs": ("VPCs per Region", 5.0),
        "internet gateways": ("Internet gateways per Region", 5.0),
        "NAT gateways in one zone": ("NAT gateways per Availability Zone", 5.0),
    }


# The calls in the sources, compared with botocore's models.

CLIENTS = {
    **dict.fromkeys(("cloudformation", "ec2", "ecr", "ecs", "elbv2", "logs", "s3", "secretsmanager", "ssm", "sts")),
    **dict.fromkeys(("rds", "iam", "cloudwatch", "elasticache")),
    "scaling": "application-autoscaling",
    "quotas": "service-quotas",
}
"""The name of a client in the sources -> botocore's name of the service, if they differ."""

NOT_OPERATIONS = {"get_paginator", "get_waiter", "meta", "exceptions", "generate_presigned_url", "can_paginate"}


@dataclass(frozen=True)
class Called:
    """One call of an operation."""

    where: str
    service: str
    operation: str
    arguments: frozenset[str]
    is_open: bool
    """Whether more arguments may come from a mapping."""


def client_name(node: ast.expr) -> str | None:
    """`aws.ecs`, `self._aws.ecs`, a local `ecs`, `aws.client("ecs")` -> "ecs"."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "client":
        first = node.args[0] if node.args else None
        return str(first.value) if isinstance(first, ast.Constant) else None
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None
    return name if name in CLIENTS else None


def calls() -> Iterator[Called]:
    for file in sorted((ROOT / "src" / "alva").glob("release/*.py")) + sorted((ROOT / "src" / "alva").glob("cli/*.py")):
        tree = ast.parse(file.read_text())
        # A module of ours can have the name of a client: `from alva.release import logs`.
        modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            where = f"{file.name}:{node.lineno}"
            open_ = any(keyword.arg is None for keyword in node.keywords)
            arguments = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
            if isinstance(node.func, ast.Attribute) and node.func.attr not in NOT_OPERATIONS:
                service = client_name(node.func.value)
                if service is not None and not (isinstance(node.func.value, ast.Name) and service in modules):
                    yield Called(where, service, node.func.attr, arguments, open_)
            elif isinstance(node.func, ast.Name) and node.func.id == "pages" and len(node.args) >= 2:
                service, operation = client_name(node.args[0]), node.args[1]
                if service is not None and isinstance(operation, ast.Constant):
                    yield Called(where, service, str(operation.value), arguments, open_)


def test_every_call_in_the_sources_exists_in_aws() -> None:
    session = botocore.session.get_session()
    found = list(calls())
    assert len(found) > 40, "the scan found too few calls"
    problems = []
    for call in found:
        model = session.get_service_model(CLIENTS.get(call.service) or call.service)
        operations = {xform_name(name): name for name in model.operation_names}
        if call.operation not in operations:
            problems.append(f"{call.where}: {call.service} has no {call.operation}")
            continue
        shape = model.operation_model(operations[call.operation]).input_shape
        members = set(shape.members) if shape is not None else set()
        required = set(shape.required_members) if shape is not None else set()
        if unknown := call.arguments - members:
            problems.append(f"{call.where}: {call.operation} does not take {', '.join(sorted(unknown))}")
        if (missing := required - call.arguments) and not call.is_open:
            problems.append(f"{call.where}: {call.operation} needs {', '.join(sorted(missing))}")
    assert problems == []
