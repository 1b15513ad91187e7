"""Images for AWS: the command lines, and failures of docker."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from alva.cli.docker_builder import DockerBuilder, build_command
from alva.errors import BuildFailed
from alva.release.manifest import Service
from tests.layouts import write_layout

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

FAKE_DOCKER = """#!/bin/sh
# Stands where docker would: it knows the builders in a file, and a build copies a layout to where it is asked for.
echo "$SOURCE_DATE_EPOCH $*" >>"{folder}/calls"
case "$2" in
inspect) sed -n "s/^$3 /Driver: /p" "{folder}/builders" | grep . || {{ echo "no builder $3"; exit 1; }} ;;
create) {create} ;;
build)
  {build}
  for word; do case "$word" in type=oci*) dest="${{word#*dest=}}" ;; esac; done
  cp -r "{layout}/." "${{dest%%,*}}" ;;
esac
"""


class FakeDocker:
    """A `docker` on PATH."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        (folder / "bin").mkdir()
        self.has_builders()
        monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
        monkeypatch.delenv("BUILDX_BUILDER", raising=False)

    def has_builders(self, *builders: str) -> None:
        """Lines of NAME DRIVER."""
        (self._folder / "builders").write_text("".join(f"{builder}\n" for builder in builders))

    def acts(self, layout: Path = Path("/nowhere"), build: str = "", create: str | None = None) -> None:
        create = f'echo "$4 $6" >>"{self._folder}/builders"' if create is None else create
        program = self._folder / "bin" / "docker"
        program.write_text(FAKE_DOCKER.format(folder=self._folder, layout=layout, build=build, create=create))
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return (self._folder / "calls").read_text().splitlines()


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    return FakeDocker(tmp_path, monkeypatch)


def quiet(_line: str) -> None:
    """Drops the output of a build."""


def test_image_is_built_for_one_platform_into_a_layout_with_pinned_timestamps() -> None:
    command = build_command("apps/api/Dockerfile", Path("/l"), builder="alva", platform="linux/arm64")
    assert command[:5] == ("docker", "buildx", "build", "--builder", "alva")
    assert "type=oci,dest=/l,tar=false,oci-mediatypes=true,rewrite-timestamp=true" in command
    assert {"linux/arm64", "--provenance=false", "--sbom=false"} <= set(command)
    assert command[-1] == "."


def test_own_buildx_builder_is_created_once_and_used_by_every_build(docker: FakeDocker, tmp_path: Path) -> None:
    image = write_layout(tmp_path / "layout", {"a": b"x"})
    docker.acts(image.folder)
    builder = DockerBuilder(tmp_path)
    assert builder.build(SERVICE, quiet) == builder.build(SERVICE, quiet) == image.digest
    assert builder.has(image.digest)
    assert [call.partition(" --progress")[0] for call in docker.calls if " inspect " not in call] == [
        "0 buildx create --name alva --driver docker-container",
        "0 buildx build --builder alva",
        "0 buildx build --builder alva",
    ]


def test_builder_that_cannot_report_a_digest_is_refused_before_the_build(
    docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.acts()
    docker.has_builders("default docker")
    monkeypatch.setenv("BUILDX_BUILDER", "default")
    with pytest.raises(BuildFailed, match="driver docker, which cannot report an image's digest") as caught:
        DockerBuilder(tmp_path).build(SERVICE, quiet)
    assert "BUILDX_BUILDER" in (caught.value.next_step or "")
    assert not any("buildx build" in call for call in docker.calls)


def test_buildx_builder_is_used_or_reported_as_missing(
    docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_layout(tmp_path / "layout", {"a": b"x"})
    docker.acts(image.folder)
    monkeypatch.setenv("BUILDX_BUILDER", "far")
    with pytest.raises(BuildFailed, match="no builder far"):
        DockerBuilder(tmp_path).build(SERVICE, quiet)
    docker.has_builders("far remote")
    DockerBuilder(tmp_path).build(SERVICE, quiet)
    assert "--builder far" in docker.calls[-1]


def test_failed_creation_of_a_builder_shows_dockers_message(docker: FakeDocker, tmp_path: Path) -> None:
    docker.acts(create='echo "ERROR: cannot connect to the Docker daemon"; exit 1')
    with pytest.raises(BuildFailed, match="create ended with exit code 1") as caught:
        DockerBuilder(tmp_path).build(SERVICE, quiet)
    assert "ERROR: cannot connect to the Docker daemon" in caught.value.evidence


@pytest.mark.parametrize(("architecture", "platform"), [("X86_64", "linux/amd64"), ("ARM64", "linux/arm64")])
def test_architecture_of_the_tasks_is_the_platform_of_their_images(
    docker: FakeDocker, tmp_path: Path, architecture: str, platform: str
) -> None:
    image = write_layout(tmp_path / "layout", {"a": b"x"}, architecture=platform.partition("/")[2])
    docker.acts(image.folder)
    DockerBuilder(tmp_path, architecture=architecture).build(SERVICE, quiet)
    assert f"--platform {platform} " in docker.calls[-1]


def test_image_of_another_architecture_than_the_tasks_is_refused(docker: FakeDocker, tmp_path: Path) -> None:
    docker.acts(write_layout(tmp_path / "layout", {"a": b"x"}, architecture="arm64").folder)
    with pytest.raises(BuildFailed, match=r"an image for linux/arm64, and the tasks run on linux/amd64"):
        DockerBuilder(tmp_path).build(SERVICE, quiet)


def test_layout_with_attestations_is_refused(docker: FakeDocker, tmp_path: Path) -> None:
    image = write_layout(tmp_path / "layout", {"a": b"x"})
    index = image.folder / "index.json"
    index.write_text(index.read_text().replace('"manifests": [', '"manifests": [{}, '))
    docker.acts(image.folder)
    with pytest.raises(BuildFailed, match="2 manifests"):
        DockerBuilder(tmp_path).build(SERVICE, quiet)


def test_manifest_with_another_digest_is_refused(docker: FakeDocker, tmp_path: Path) -> None:
    image = write_layout(tmp_path / "layout", {"a": b"x"})
    image.blob(image.digest).write_bytes(image.manifest + b" ")
    docker.acts(image.folder)
    with pytest.raises(BuildFailed, match="cannot read the image") as caught:
        DockerBuilder(tmp_path).build(SERVICE, quiet)
    assert "has another digest" in caught.value.evidence[0]


def test_cache_is_replaced_by_the_one_that_the_build_wrote(docker: FakeDocker, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "api").mkdir(parents=True)
    (cache / "api" / "old").touch()
    docker.acts(
        write_layout(tmp_path / "layout", {"a": b"x"}).folder, f"mkdir {cache}/api.next; touch {cache}/api.next/new"
    )
    DockerBuilder(tmp_path, cache=cache).build(SERVICE, quiet)
    assert f"--cache-from type=local,src={cache}/api --cache-to type=local,dest={cache}/api.next," in docker.calls[-1]
    assert sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*")) == ["api", "api/new"]


def test_failed_build_shows_its_last_lines(docker: FakeDocker, tmp_path: Path) -> None:
    docker.acts(build='echo "ERROR: no space left on device"; exit 17')
    with pytest.raises(BuildFailed, match="exit code 17") as caught:
        DockerBuilder(tmp_path).build(SERVICE, quiet)
    assert caught.value.evidence == ("ERROR: no space left on device",)


def test_machine_of_another_architecture_is_named_as_the_cause(docker: FakeDocker, tmp_path: Path) -> None:
    docker.acts(build='echo "exec /bin/sh: exec format error"; exit 1')
    with pytest.raises(BuildFailed) as caught:
        DockerBuilder(tmp_path, architecture="ARM64").build(SERVICE, quiet)
    assert "ubuntu-24.04-arm" in (caught.value.next_step or "")


def test_cancelled_build_ends_soon(docker: FakeDocker, tmp_path: Path) -> None:
    docker.acts(build="while :; do echo building || exit 1; done")
    cancelled = threading.Event()
    with pytest.raises(BuildFailed):
        DockerBuilder(tmp_path, cancelled=cancelled).build(SERVICE, lambda _line: cancelled.set())


def test_without_docker_the_next_step_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildFailed, match="docker is not installed") as caught:
        DockerBuilder(tmp_path).build(SERVICE, quiet)
    assert "--image" in (caught.value.next_step or "")


def test_image_that_was_not_built_here_is_not_pushed(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="was not built here"):
        DockerBuilder(tmp_path).push(SERVICE, "sha256:" + "a" * 64, "tag", Any)  # type: ignore[arg-type]
