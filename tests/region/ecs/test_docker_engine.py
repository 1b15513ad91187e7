"""A Docker engine that knows nothing of the region pushes into its registry, and pulls from it.

The engine is this machine's `dockerd`, started here with a folder and a socket of its own. It runs no container: it
needs no bridge, no firewall rules and no internet.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.layouts import entry, file_entry, tar

from .test_pushed_images import Ecr, shell
from .workbench import Workbench

BUSYBOX = shutil.which("busybox")
START_SECONDS = 30


class Docker:
    """Docker's client at an engine of its own."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self._environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{socket}",
            "DOCKER_CONFIG": str(folder / "client"),
        }

    def run(self, *arguments: str, standard_input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["docker", *arguments], env=self._environment, input=standard_input, capture_output=True, check=False
        )

    def __call__(self, *arguments: str, standard_input: bytes = b"") -> str:
        ended = self.run(*arguments, standard_input=standard_input)
        assert ended.returncode == 0, ended.stderr.decode()
        return ended.stdout.decode().strip()


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """An engine that has no image yet."""
    if os.geteuid() != 0:
        pytest.skip("a Docker engine is started by root")
    for program in ("dockerd", "containerd", "docker", "busybox"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install docker.io busybox-static")
    folder = tmp_path_factory.mktemp("docker")
    log = folder / "log"
    socket = folder / "s"
    command = [
        "dockerd",
        *("--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"),
        *(f"--data-root={folder / 'data'}", f"--exec-root={folder / 'exec'}", f"--pidfile={folder / 'pid'}"),
        f"--host=unix://{socket}",
    ]
    with log.open("wb") as output:
        engine = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        client = Docker(folder, socket)
        deadline = time.monotonic() + START_SECONDS
        while client.run("version").returncode != 0:
            if engine.poll() is not None or time.monotonic() > deadline:
                pytest.skip(f"a Docker engine does not start here: {log.read_text()[-300:]}")
            time.sleep(0.2)
        yield client
    finally:
        engine.terminate()
        engine.wait()


@pytest.fixture(scope="module")
def ecr(workbench: Workbench) -> Ecr:
    return Ecr(workbench)


def archive() -> bytes:
    """A root file system with a shell, as `docker import` takes it."""
    assert BUSYBOX is not None
    return tar(
        [
            entry("bin", tarfile.DIRTYPE),
            file_entry("bin/busybox", Path(BUSYBOX).read_bytes(), 0o755),
            *(entry(f"bin/{name}", tarfile.SYMTYPE, "busybox") for name in ("sh", "echo")),
        ]
    )


def test_docker_signs_in_pushes_and_pulls(workbench: Workbench, ecr: Ecr, docker: Docker) -> None:
    uri = ecr.repository("docker")
    host = uri.partition("/")[0]
    assert "Login Succeeded" in docker(
        "login", "--username", "AWS", "--password-stdin", host, standard_input=ecr.password.encode()
    )
    docker("import", "-", f"{uri}:1", standard_input=archive())
    docker("push", f"{uri}:1")
    (image,) = ecr.api.describe_images(repositoryName="docker")["imageDetails"]
    assert image["imageTags"] == ["1"]
    assert shell(workbench, f"{uri}:1", "echo from docker") == ["from docker"]

    reference = f"{uri}@{image['imageDigest']}"
    docker("image", "rm", f"{uri}:1")
    assert docker.run("image", "inspect", reference).returncode != 0
    docker("pull", reference)
    assert image["imageDigest"] in docker("image", "inspect", "--format", "{{.RepoDigests}}", reference)


def test_docker_is_told_that_a_tag_cannot_move(ecr: Ecr, docker: Docker) -> None:
    uri = ecr.repository("docker-immutable")
    docker(
        "login", "--username", "AWS", "--password-stdin", uri.partition("/")[0], standard_input=ecr.password.encode()
    )
    docker("import", "-", f"{uri}:1", standard_input=archive())
    docker("push", f"{uri}:1")
    docker("import", "--change", "ENV OTHER=1", "-", f"{uri}:1", standard_input=archive())
    refused = docker.run("push", f"{uri}:1")
    assert refused.returncode != 0
    assert b"cannot be overwritten because the repository is immutable" in refused.stderr
