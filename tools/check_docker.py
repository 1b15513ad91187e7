"""Has a real Docker engine judge the images of all services: builds, pushes, pulls, runs and stops each.

    tools/check_docker.py --registry 127.0.0.1:5000

Needs Docker with buildx, a registry without a password on loopback (`docker run -p 127.0.0.1:5000:5000 registry:2`, or
Debian's package `docker-registry`), and the local region running with a release in it (`./alva up`). For each service:

1. `DockerBuilder` builds it as for AWS, twice: the second time with an empty cache. The digests must be the same.
2. It is pushed into the registry and pulled by digest; Docker must have got what was built.
3. Docker runs it with a read-only root: it imports its own program, with bytecode that Python accepts.

Then the images that Docker built are released into the local region in the place of its own, which starts them, asks
their health, verifies them and stops the ones before. Prints a line for each service: digest, seconds, megabytes.
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

from alva.cli.docker_builder import BUILDER, DockerBuilder  # noqa: E402
from alva.oci import Layout, Registry  # noqa: E402
from alva.release.images import tag_of  # noqa: E402
from alva.release.manifest import Manifest, Service  # noqa: E402

STALE = "bytecode is stale"
"""What `python -v` says of bytecode that does not belong to its source."""


def docker(*arguments: str) -> str:
    """Run docker; what it says on both outputs. Ends this program when it fails."""
    command = ["docker", *arguments]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if ended.returncode != 0:
        sys.exit(f"docker {' '.join(arguments)} ended with exit code {ended.returncode}\n{ended.stdout[-3000:]}")
    return ended.stdout


def built(manifest: Manifest, service: Service) -> tuple[Layout, float]:
    """The image as a builder without any memory of it makes it, and how many seconds that took."""
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
        said = docker("run", "--rm", "--read-only", reference, "python", "-v", "-c", f"import {service.name}.app")
        if STALE in said:
            sys.exit(f"{service.name}: {said.count(STALE)} files of bytecode are stale")
        size = sum(image.blob(layer).stat().st_size for layer in image.layers)
        print(
            f"{service.name} {image.digest} built in {seconds:.0f} s, without a cache in {uncached_seconds:.0f} s, "
            f"{size / 2**20:.0f} MB compressed",
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
