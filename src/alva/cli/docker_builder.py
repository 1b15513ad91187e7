"""Images for AWS: built by Docker's BuildKit from the same Dockerfiles, named and pushed by digest.

BuildKit gives a digest only together with an output, and a release must know the digest before the repositories exist.
So an image is built twice: first for its digest alone, then, from BuildKit's cache, into the repository. Timestamps are
pinned, which makes both the same; a push that has another digest is an error.

What this module runs are command lines; they are values, tested as such. They have not run against AWS yet.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from alva.aws import Aws, explained
from alva.cli import command_line
from alva.errors import BuildFailed
from alva.release.manifest import Service

PLATFORMS = {"X86_64": "linux/amd64", "ARM64": "linux/arm64"}
"""CPU architecture of a task definition -> platform of an image."""

BUILD_TIMEOUT_SECONDS = 1200.0
"""How long one build or push may take: the workflow's own limit for a job that builds."""


def build_command(
    service: Service, metadata_file: Path, *, platform: str, push_to: str | None = None, cache: Path | None = None
) -> tuple[str, ...]:
    """The command line that builds a service's image and writes its digest to `metadata_file`.

    `push_to` is REPOSITORY:TAG, or None to build for the digest alone. `cache` is a folder that keeps BuildKit's cache
    between machines. Attestations are left out: with them, ECR's digest would name an index of two manifests.
    """
    output = f"type=image,name={push_to or service.repository},push={'true' if push_to else 'false'}"
    command = [
        *("docker", "buildx", "build", "--progress", "plain", "--platform", platform),
        *("--provenance=false", "--sbom=false", "--file", service.dockerfile),
        *("--metadata-file", str(metadata_file), "--output", f"{output},oci-mediatypes=true,rewrite-timestamp=true"),
    ]
    if cache is not None:
        command += ["--cache-from", f"type=local,src={cache}"]
        if push_to is None:
            command += ["--cache-to", f"type=local,dest={cache},mode=max"]
    return (*command, ".")


def login_command(registry: str) -> tuple[str, ...]:
    """The command line that signs in to a registry; the password comes on standard input."""
    return ("docker", "login", "--username", "AWS", "--password-stdin", registry)


def digest_in(metadata: Mapping[str, object]) -> str:
    """The digest in BuildKit's metadata; raises BuildFailed when there is none."""
    digest = metadata.get("containerimage.digest")
    if not isinstance(digest, str) or not digest.startswith("sha256:"):
        raise BuildFailed(
            "cannot tell the digest of what was built: BuildKit's metadata has no containerimage.digest",
            next_step="docker buildx create --use makes a builder that gives one",
        )
    return digest


class DockerBuilder:
    """`release.images.Builder` with the docker command line."""

    def __init__(
        self,
        root: Path,
        *,
        platform: str = PLATFORMS["X86_64"],
        cache: Path | None = None,
        cancelled: threading.Event | None = None,
        timeout_seconds: float = BUILD_TIMEOUT_SECONDS,
    ) -> None:
        self._root = root
        self._timeout_seconds = timeout_seconds
        self._platform = platform
        self._cache = cache
        self._cancelled = cancelled or threading.Event()
        self._built: set[str] = set()
        self._signed_in: set[str] = set()
        self._lock = threading.Lock()

    def build(self, service: Service, line: Callable[[str], None]) -> str:
        """Build the image and return its digest; raises BuildFailed with the build's last lines."""
        digest = self._build(service, line, push_to=None)
        with self._lock:
            self._built.add(digest)
        return digest

    def has(self, digest: str) -> bool:
        """Whether this builder built it."""
        return digest in self._built

    def find_folder(self, digest: str, path: str) -> Path | None:  # noqa: ARG002
        """The folder in the sources: images are built from the commit that is checked out, under `apps/`."""
        folder = self._root / f"apps{path.removeprefix('app')}"
        return folder if folder.is_dir() else None

    def push(self, service: Service, digest: str, tag: str, aws: Aws) -> None:
        """Build once more, from the cache, into the service's repository; raises BuildFailed if that is another one."""
        with explained(f"find repository {service.repository}"):
            repository = aws.ecr.describe_repositories(repositoryNames=[service.repository])["repositories"][0]
        uri = repository["repositoryUri"]
        self._sign_in(uri.partition("/")[0], aws)
        pushed = self._build(service, lambda _line: None, push_to=f"{uri}:{tag}")
        if pushed != digest:
            raise BuildFailed(
                f"cannot push {service.name}: the second build differs from the first",
                evidence=[f"planned {digest}", f"pushed {pushed}"],
                next_step="did a file change meanwhile? release again",
            )

    def _build(self, service: Service, line: Callable[[str], None], *, push_to: str | None) -> str:
        cache = None if self._cache is None else self._cache / service.name
        with tempfile.TemporaryDirectory(prefix="alva-build-") as folder:
            metadata_file = Path(folder) / "metadata.json"
            self._run(
                build_command(service, metadata_file, platform=self._platform, push_to=push_to, cache=cache),
                f"build {service.name}",
                line,
            )
            return digest_in(json.loads(metadata_file.read_text()))

    def _run(self, command: tuple[str, ...], what: str, line: Callable[[str], None]) -> None:
        if shutil.which(command[0]) is None:
            raise BuildFailed(
                f"cannot {what}: docker is not installed",
                next_step="install Docker with buildx, or give the images by digest: --image NAME=sha256:...",
            )
        ended = command_line.run(
            command,
            folder=self._root,
            # Every timestamp in the image: what is built twice must be the same twice.
            environment={**os.environ, "SOURCE_DATE_EPOCH": "0"},
            line=line,
            timeout_seconds=self._timeout_seconds,
            what=what,
            cancelled=self._cancelled,
        )
        if ended.exit_code != 0:
            raise BuildFailed(
                f"cannot {what}: docker ended with exit code {ended.exit_code}", evidence=list(ended.last_lines)
            )

    def _sign_in(self, registry: str, aws: Aws) -> None:
        with self._lock:
            if registry in self._signed_in:
                return
            with explained("get a password for ECR"):
                data = aws.ecr.get_authorization_token()["authorizationData"][0]
            password = base64.b64decode(data["authorizationToken"]).decode().partition(":")[2]
            ended = subprocess.run(
                login_command(registry), input=password, capture_output=True, text=True, timeout=120, check=False
            )
            if ended.returncode != 0:
                raise BuildFailed(f"cannot sign in to {registry}", evidence=ended.stderr.strip().splitlines()[-3:])
            self._signed_in.add(registry)
