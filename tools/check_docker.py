"""Checks the images of all services with a real Docker engine: builds, pushes, pulls, runs and stops each one.

    tools/check_docker.py --registry 127.0.0.1:5000

Needs Docker with buildx, a registry without a password on loopback (`docker run -p 127.0.0.1:5000:5000 registry:2`, or
Debian's package `docker-registry`), and the local region running with a release in it (`./alva up`). For each service:

1. `DockerBuilder` builds it as for AWS, twice: the second time with an empty cache. The digests must be the same.
2. It is pushed into the registry and pulled by digest; Docker must get the built image.
3. Docker starts it with a read-only root, half a CPU, no network, and the environment of its task: it listens on its
   port, answers its health path and ends on SIGTERM. All bytecode below /app is unchecked: Python does not compare it
   with its source.

Then the local region releases the images that Docker built: it starts them, checks their health, verifies them and
stops the former ones. Prints a line for each service: digest, seconds, megabytes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from alva.aws import Aws  # noqa: E402
from alva.cli.docker_builder import BUILDER, DockerBuilder  # noqa: E402
from alva.cli.invocation import Invocation  # noqa: E402
from alva.oci import Layout, Registry  # noqa: E402
from alva.release.images import tag_of  # noqa: E402
from alva.release.manifest import Manifest, Service  # noqa: E402

START_SECONDS = 60.0
STOP_SECONDS = 30

CHECKED_BYTECODE = """
import pathlib, sys
files = list(pathlib.Path("/app").rglob("*.pyc"))
sys.exit(f"{len(files)} files of bytecode, of which Python compares with its source: " +
         (", ".join(str(each) for each in files if each.read_bytes()[4] != 1)[:500] or "none"))
"""
"""Flags of a .pyc are a little-endian word after the magic number: 1 means unchecked (PEP 552)."""

HEALTH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).status)"


def docker(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run docker and return its output (stdout and stderr). Exit if it fails."""
    command = ["docker", *arguments]
    ended = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if ended.returncode != 0:
        sys.exit(f"docker {' '.join(arguments)} ended with exit code {ended.returncode}\n{ended.stdout[-3000:]}")
    return ended.stdout


def environment_of(aws: Aws, service: Service) -> dict[str, str]:
    """Return the environment of the service's task in the local region, with its secrets."""
    definition = aws.ecs.describe_task_definition(taskDefinition=service.service)["taskDefinition"]
    (container,) = (each for each in definition["containerDefinitions"] if each["name"] == service.name)
    given = {each["name"]: each["value"] for each in container.get("environment", [])}
    for secret in container.get("secrets", []):
        arn, key = secret["valueFrom"].split(":")[:7], secret["valueFrom"].split(":")[7:8]
        value = aws.secretsmanager.get_secret_value(SecretId=":".join(arn))["SecretString"]
        given[secret["name"]] = json.loads(value)[key[0]] if key and key[0] else value
    return given


def is_listening(pid: int, port: int) -> bool:
    """Return whether something listens on the port in the network namespace of a process."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return any(line[3] == "0A" and int(line[1].rpartition(":")[2], 16) == port for line in lines)


def run(reference: str, service: Service, environment: dict[str, str]) -> tuple[float, float]:
    """Start the image, request its health path and stop it. Return the seconds until it listens and from SIGTERM to its
    end.

    Exit if it violates docs/reference/service-contract.md.
    """
    options = [*("--read-only", "--cpus", "0.5", "--memory", "1g", "--network", "none", "--stop-timeout", "60")]
    variables = [part for name in environment for part in ("--env", name)]
    began = time.monotonic()
    container = docker("run", "--detach", *options, *variables, reference, environment=environment).strip()
    try:
        pid = int(docker("inspect", "--format", "{{.State.Pid}}", container))
        port = int(environment["PORT"])
        while not (Path(f"/proc/{pid}").exists() and is_listening(pid, port)):
            if time.monotonic() - began > START_SECONDS or not Path(f"/proc/{pid}").exists():
                sys.exit(f"{service.name} does not listen on {port}\n{docker('logs', container)[-3000:]}")
            time.sleep(0.02)
        listening = time.monotonic() - began
        docker("exec", container, "python", "-c", HEALTH, f"http://127.0.0.1:{port}{service.health_path}")
        began = time.monotonic()
        docker("stop", "--time", str(STOP_SECONDS), container)
        ended = time.monotonic() - began
        code = docker("inspect", "--format", "{{.State.ExitCode}}", container).strip()
        if code not in ("0", "143"):
            sys.exit(f"{service.name} ended with exit code {code} after SIGTERM")
        return listening, ended
    finally:
        docker("rm", "--force", "--volumes", container)


def built(manifest: Manifest, service: Service) -> tuple[Layout, float]:
    """Build the image without a cache, and return it with the seconds that the build took."""
    builder = DockerBuilder(ROOT, architecture=manifest.architecture)
    began = time.monotonic()
    digest = builder.build(service, lambda _line: None)
    kept = Path("/tmp") / f"check-docker-{service.name}"  # noqa: S108 (outlives the builder; nothing secret in it)
    shutil.rmtree(kept, ignore_errors=True)
    image = builder.image(digest)
    shutil.copytree(image.folder, kept)
    return Layout.read(kept), time.monotonic() - began


def main() -> None:
    """Check each service of the staging environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registry", required=True, help="HOST:PORT of a registry without a password, on loopback")
    registry = parser.parse_args().registry
    subprocess.run([ROOT / "alva", "synth"], check=True)
    home = Path(os.environ.get("ALVA_HOME", ROOT / ".alva"))
    manifest = Manifest.read(home / "cdk.out" / "staging")
    aws = Invocation(target_name="local", environment="staging", as_json=False, yes=True, verbose=False).aws
    images: dict[str, Layout] = {}
    for service in manifest.services:
        image, seconds = built(manifest, service)
        docker("buildx", "prune", "--builder", BUILDER, "--all", "--force")
        again, uncached_seconds = built(manifest, service)
        if again.digest != image.digest:
            sys.exit(f"{service.name}: {image.digest} from the cache, {again.digest} without it")
        images[service.name] = image
        tag = tag_of(image.digest)
        Registry(url=f"http://{registry}").push(image, service.repository, tag)
        reference = f"{registry}/{service.repository}@{image.digest}"
        docker("pull", "--quiet", reference)
        (inspected,) = json.loads(docker("image", "inspect", reference))
        if not any(name.endswith(f"@{image.digest}") for name in inspected["RepoDigests"]):
            sys.exit(f"{service.name}: pulled {inspected['RepoDigests']}, not {image.digest}")
        bytecode = subprocess.run(
            ["docker", "run", "--rm", "--network", "none", reference, "python", "-c", CHECKED_BYTECODE],
            capture_output=True,
            text=True,
            check=False,
        ).stderr.strip()
        if not bytecode.endswith(": none") or bytecode.startswith("0 "):
            sys.exit(f"{service.name}: {bytecode}")
        to_health, to_end = run(reference, service, environment_of(aws, service))
        size = sum(image.blob(layer).stat().st_size for layer in image.layers)
        print(
            f"{service.name} {image.digest} built in {seconds:.0f} s, again in {uncached_seconds:.0f} s, "
            f"{size / 2**20:.0f} MB compressed, listens after {to_health:.1f} s at half a CPU, ends in {to_end:.1f} s, "
            f"{bytecode.partition(',')[0]}",
            flush=True,
        )
    release(images)


def release(images: dict[str, Layout]) -> None:
    """Release the images into the local region."""
    environment = {**os.environ, "ALVA_BUILDER": "docker"}
    subprocess.run([ROOT / "alva", "deploy", "--yes"], env=environment, check=True)
    running = json.loads(subprocess.run([ROOT / "alva", "status", "--json"], capture_output=True, check=True).stdout)
    for name, image in images.items():
        if image.digest not in json.dumps(running):
            sys.exit(f"{name}: the region does not run {image.digest}")
    print("released into the local region, verified")


if __name__ == "__main__":
    main()
