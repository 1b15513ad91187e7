"""Chooses the builder of an image for the local region: our own, or Docker for Dockerfiles that ours rejects."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from alva.aws import Aws
from alva.cli.bundle_builder import BundleBuilder
from alva.cli.docker_builder import DockerBuilder
from alva.errors import BuildFailed, UsageError
from alva.region.images import NotBuildable
from alva.release.images import Builder
from alva.release.manifest import Service

VARIABLE = "ALVA_BUILDER"
AUTO, OWN, DOCKER = "auto", "own", "docker"
CHOICES = (AUTO, OWN, DOCKER)


def choice() -> str:
    """Return the value of ALVA_BUILDER. Raises UsageError if it is invalid."""
    chosen = os.environ.get(VARIABLE) or AUTO
    if chosen not in CHOICES:
        raise UsageError(f"cannot build with {VARIABLE}={chosen}", next_step=f"one of: {', '.join(CHOICES)}")
    return chosen


class ChosenBuilder:
    """A `release.images.Builder`: our own builder, with Docker for Dockerfiles that it cannot build.

    `builds_with` is one of CHOICES: `auto`, or one of the two builders.
    """

    def __init__(self, own: BundleBuilder, docker: DockerBuilder, builds_with: str = AUTO) -> None:
        self._own = own
        self._docker = docker
        self._builds_with = builds_with
        self._lock = threading.Lock()
        self._answers: bool | None = None

    def build(self, service: Service, line: Callable[[str], None]) -> str:
        """Build the image, report which builder is used, and return the digest. Raises BuildFailed."""
        if self._builds_with == DOCKER:
            line(f"Docker builds {service.name}: {VARIABLE}={DOCKER}")
            return self._docker.build(service, line)
        try:
            digest = self._own.build(service, line)
            line(f"built {service.name} without Docker")
            return digest
        except NotBuildable as refused:
            if self._builds_with == OWN:
                raise
            if not self._has_engine():
                raise BuildFailed(
                    refused.message,
                    evidence=refused.evidence,
                    next_step="Docker can build it: install Docker with buildx or start it, then run the same command "
                    "again",
                ) from refused
            line(f"Docker builds {service.name}: {refused.message.partition(': ')[2]}")
            return self._docker.build(service, line)

    def has(self, digest: str) -> bool:
        """Whether one of the builders has the image."""
        return self._holder(digest) is not None

    def find_folder(self, digest: str, path: str) -> Path | None:
        """Return the folder at `path` in the image."""
        return (self._holder(digest) or self._own).find_folder(digest, path)

    def push(self, service: Service, digest: str, tag: str, aws: Aws) -> None:
        """Push the image to the service's repository."""
        (self._holder(digest) or self._own).push(service, digest, tag, aws)

    def _holder(self, digest: str) -> Builder | None:
        return next((builder for builder in (self._docker, self._own) if builder.has(digest)), None)

    def _has_engine(self) -> bool:
        with self._lock:
            if self._answers is None:
                self._answers = engine_answers()
            return self._answers


def engine_answers() -> bool:
    """Whether a Docker engine with buildx is available."""
    if shutil.which("docker") is None:
        return False
    for command in (("docker", "version", "--format", "{{.Server.Version}}"), ("docker", "buildx", "version")):
        try:
            if subprocess.run(command, capture_output=True, timeout=10, check=False).returncode != 0:
                return False
        except subprocess.TimeoutExpired:
            return False
    return True
