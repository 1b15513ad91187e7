"""The images for AWS: command lines as values, and what a docker that misbehaves leads to."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from alva.aws import Aws, Target
from alva.cli.docker_builder import DockerBuilder, build_command, digest_in, login_command
from alva.errors import BuildFailed
from alva.release.manifest import Service

SERVICE = Service(
    name="api",
    service="alva-api",
    repository="alva-api",
    dockerfile="apps/api/Dockerfile",
    port=3001,
    paths=("/api",),
    host=None,
    health_path="/health",
    log_group="/alva/staging/api",
    image_parameter="ApiImageDigest",
)
DIGEST = "sha256:" + "a" * 64

FAKE_DOCKER = """#!/bin/sh
# Stands where docker would: writes the metadata that BuildKit writes, and notes how it was called.
echo "$SOURCE_DATE_EPOCH $*" >>"{calls}"
[ "$1" = login ] && {{ cat >>"{calls}"; exit 0; }}
{more}
while [ $# -gt 0 ]; do [ "$1" = --metadata-file ] && printf '{{"containerimage.digest": "{digest}"}}' >"$2"; shift; done
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a `docker` on PATH; returns the file that has its calls."""
    calls = tmp_path / "calls"

    def make(digest: str = DIGEST, more: str = "") -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "docker").write_text(FAKE_DOCKER.format(calls=calls, digest=digest, more=more))
        (folder / "docker").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return calls

    return make


class FakeEcr:
    """The two answers of ECR that a push reads."""

    def describe_repositories(self, repositoryNames: list[str]) -> dict[str, Any]:
        uri = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{repositoryNames[0]}"
        return {"repositories": [{"repositoryUri": uri}]}

    def get_authorization_token(self) -> dict[str, Any]:
        return {"authorizationData": [{"authorizationToken": "QVdTOnNlY3JldA=="}]}  # AWS:secret


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    monkeypatch.setattr(Aws, "ecr", FakeEcr())
    return Aws(Target.aws("us-east-1"))


def test_first_build_pushes_nothing_and_second_goes_to_the_tag() -> None:
    first = build_command(SERVICE, Path("/m"), platform="linux/amd64")
    assert "type=image,name=alva-api,push=false,oci-mediatypes=true,rewrite-timestamp=true" in first
    second = build_command(SERVICE, Path("/m"), platform="linux/amd64", push_to="registry/alva-api:tag")
    assert "type=image,name=registry/alva-api:tag,push=true,oci-mediatypes=true,rewrite-timestamp=true" in second
    for command in (first, second):
        assert command[:3] == ("docker", "buildx", "build")
        assert command[-1] == "."
        assert {"--provenance=false", "--sbom=false"} <= set(command)


def test_cache_is_read_by_both_builds_and_written_by_the_first() -> None:
    first = build_command(SERVICE, Path("/m"), platform="linux/amd64", cache=Path("/c"))
    second = build_command(SERVICE, Path("/m"), platform="linux/amd64", cache=Path("/c"), push_to="r:t")
    assert "type=local,src=/c" in first
    assert "type=local,src=/c" in second
    assert "type=local,dest=/c,mode=max" in first
    assert "--cache-to" not in second


def test_password_is_no_argument() -> None:
    assert login_command("registry") == ("docker", "login", "--username", "AWS", "--password-stdin", "registry")


def test_metadata_without_a_digest_is_an_error() -> None:
    with pytest.raises(BuildFailed, match=r"containerimage\.digest"):
        digest_in({"buildx.build.ref": "x"})


def test_build_and_push_name_the_same_digest(docker: Any, aws: Aws, tmp_path: Path) -> None:
    calls = docker()
    builder = DockerBuilder(tmp_path)
    assert not builder.has(DIGEST)
    assert builder.build(SERVICE, lambda _line: None) == DIGEST
    assert builder.has(DIGEST)
    builder.push(SERVICE, DIGEST, "tag", aws)
    build, login, push = calls.read_text().replace("secret", "").splitlines()
    assert build.startswith("0 buildx build")
    assert "login" in login
    assert "secret" not in login
    assert "name=123456789012.dkr.ecr.us-east-1.amazonaws.com/alva-api:tag,push=true" in push


def test_push_of_something_else_is_an_error(docker: Any, aws: Aws, tmp_path: Path) -> None:
    docker()
    builder = DockerBuilder(tmp_path)
    builder.build(SERVICE, lambda _line: None)
    docker(digest="sha256:" + "b" * 64)
    with pytest.raises(BuildFailed, match="differs from the first"):
        builder.push(SERVICE, DIGEST, "tag", aws)


def test_failed_build_shows_its_last_lines(docker: Any, tmp_path: Path) -> None:
    docker(more='echo "ERROR: no space left on device"; exit 17')
    with pytest.raises(BuildFailed, match="exit code 17") as caught:
        DockerBuilder(tmp_path).build(SERVICE, lambda _line: None)
    assert caught.value.evidence == ("ERROR: no space left on device",)


def test_cancelled_build_ends_soon(docker: Any, tmp_path: Path) -> None:
    docker(more="while :; do echo building || exit 1; done")
    cancelled = threading.Event()
    with pytest.raises(BuildFailed):
        DockerBuilder(tmp_path, cancelled=cancelled).build(SERVICE, lambda _line: cancelled.set())


def test_without_docker_the_next_step_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildFailed, match="docker is not installed") as caught:
        DockerBuilder(tmp_path).build(SERVICE, lambda _line: None)
    assert "--image" in (caught.value.next_step or "")
