"""Builds images with Docker's BuildKit from the services' Dockerfiles, and pushes them unchanged.

BuildKit writes each image to disk as an OCI layout. Its digest is known before a repository exists, and the push sends
the same bytes. The tool creates its own builder at first use: Docker's default builder cannot write a layout, and its
digest depends on how the engine stores images. See docs/decisions/images-built-once.md.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from alva.aws import Aws, explained
from alva.cli import command_line
from alva.errors import BuildFailed
from alva.oci import Layout, Registry, read_folder, write_folder
from alva.release.manifest import Service

PLATFORMS = {"X86_64": "linux/amd64", "ARM64": "linux/arm64"}
"""CPU architecture of a task definition -> platform of an image."""

BUILDER = "alva"
"""The name of the tool's builder. BUILDX_BUILDER, Docker's own variable, overrides it."""

BUILD_TIMEOUT_SECONDS = 1200.0
"""The time limit of a build or push: that of the workflow's build job."""

_WITHOUT_LAYOUT = "docker"
"""The driver of Docker's default builder."""


def build_command(
    dockerfile: str, layout: Path, *, builder: str, platform: str, cache: Path | None = None, context: str = "."
) -> tuple[str, ...]:
    """Return the command line that builds an image and writes it to the folder `layout`.

    `cache` is a folder with BuildKit's cache, kept between machines. It is read, and a new cache is written beside it,
    because an overwritten cache grows without limit. Attestations are off: with them, the digest would name an index of
    two manifests, and would differ in each build.
    """
    output = f"type=oci,dest={layout},tar=false,oci-mediatypes=true,rewrite-timestamp=true"
    command = [
        *("docker", "buildx", "build", "--builder", builder, "--progress", "plain", "--platform", platform),
        *("--provenance=false", "--sbom=false", "--file", dockerfile, "--output", output),
    ]
    if cache is not None:
        command += ["--cache-from", f"type=local,src={cache}"]
        command += ["--cache-to", f"type=local,dest={_next(cache)},mode=max"]
    return (*command, context)


def _next(cache: Path) -> Path:
    return cache.with_name(f"{cache.name}.next")


class DockerBuilder:
    """A `release.images.Builder` that runs Docker. `architecture` is that of the task definitions: X86_64 or ARM64."""

    def __init__(
        self,
        root: Path,
        *,
        architecture: str = "X86_64",
        cache: Path | None = None,
        cancelled: threading.Event | None = None,
        timeout_seconds: float = BUILD_TIMEOUT_SECONDS,
    ) -> None:
        self._root = root
        self._timeout_seconds = timeout_seconds
        self._platform = PLATFORMS[architecture]
        self._cache = cache
        self._cancelled = cancelled or threading.Event()
        self._images: dict[str, Layout] = {}
        self._folder: Path | None = None
        self._builder: str | None = None
        self._registry: Registry | None = None
        self._lock = threading.Lock()

    def build(self, service: Service, line: Callable[[str], None]) -> str:
        """Build the image and return its digest; raises BuildFailed with the build's last lines."""
        what = f"build {service.name}"
        builder = self._prepared(what)
        layout = Path(tempfile.mkdtemp(prefix=f"{service.name}-", dir=self._work_folder()))
        cache = None if self._cache is None else self._cache / service.name
        command = build_command(
            service.dockerfile,
            layout,
            builder=builder,
            platform=self._platform,
            cache=cache,
            context=service.context,
        )
        ended = self._run(command, what, line)
        if ended.exit_code != 0:
            raise BuildFailed(
                f"cannot {what}: docker ended with exit code {ended.exit_code}",
                evidence=list(ended.last_lines),
                next_step=self._advice(ended.last_lines),
            )
        if cache is not None and _next(cache).is_dir():
            shutil.rmtree(cache, ignore_errors=True)
            _next(cache).rename(cache)
        image = Layout.read(layout)
        if image.platform != self._platform:
            raise BuildFailed(
                f"cannot {what}: it is an image for {image.platform}, and the tasks run on {self._platform}",
                next_step="remove FROM --platform from its Dockerfile, if it is there",
            )
        with self._lock:
            self._images[image.digest] = image
        return image.digest

    def has(self, digest: str) -> bool:
        """Whether this builder has built the image."""
        return digest in self._images

    def image(self, digest: str) -> Layout:
        """Return the layout of a built image, which exists as long as the builder."""
        return self._images[digest]

    def find_folder(self, digest: str, path: str) -> Path | None:
        """Return the folder at `path` in the image, extracted from its layers; None if there is none."""
        image = self._images[digest]
        with ExitStack() as opened:
            files = read_folder((opened.enter_context(image.blob(layer).open("rb")) for layer in image.layers), path)
        return None if files is None else write_folder(files, Path(tempfile.mkdtemp(dir=self._work_folder())))

    def push(self, service: Service, digest: str, tag: str, aws: Aws) -> None:
        """Push a built image to the service's repository; raises BuildFailed."""
        image = self._images.get(digest)
        if image is None:
            raise BuildFailed(
                f"cannot push {service.name}: {digest} was not built here", next_step="run the same command again"
            )
        with explained(f"find repository {service.repository}"):
            repository = aws.ecr.describe_repositories(repositoryNames=[service.repository])["repositories"][0]
        host, _, name = repository["repositoryUri"].partition("/")
        self._signed_in(host, aws).push(image, name, tag)

    def _signed_in(self, host: str, aws: Aws) -> Registry:
        with self._lock:
            if self._registry is None:
                with explained("get an ECR authorization token"):
                    data = aws.ecr.get_authorization_token()["authorizationData"][0]
                scheme = data["proxyEndpoint"].partition("://")[0]
                self._registry = Registry(
                    url=f"{scheme}://{host}",
                    authorization=f"Basic {data['authorizationToken']}",
                    cancelled=self._cancelled,
                )
            return self._registry

    def _work_folder(self) -> Path:
        """The folder of the layouts, which exists as long as the builder."""
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="alva-images-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            return self._folder

    def _prepared(self, what: str) -> str:
        """Return the builder's name, after creating it and checking its driver. Raises BuildFailed."""
        with self._lock:
            if self._builder is None:
                self._builder = self._prepare(what)
            return self._builder

    def _prepare(self, what: str) -> str:
        if shutil.which("docker") is None:
            raise BuildFailed(
                f"cannot {what}: docker is not installed",
                next_step="install Docker with buildx, or pass the images by digest: --image NAME=sha256:...",
            )
        chosen = os.environ.get("BUILDX_BUILDER")
        name = chosen or BUILDER
        driver = self._driver(name)
        if driver is None and chosen is None:
            create = ("docker", "buildx", "create", "--name", name, "--driver", "docker-container")
            made = self._run(create, "make a builder", lambda _line: None)
            driver = self._driver(name)  # another run may have created it meanwhile
            if driver is None:
                raise BuildFailed(
                    f"cannot {what}: docker buildx create ended with exit code {made.exit_code}",
                    evidence=list(made.last_lines),
                    next_step="check `docker buildx version` and `docker info`",
                )
        if driver is None:
            raise BuildFailed(
                f"cannot {what}: there is no builder {name}, which BUILDX_BUILDER names",
                next_step="docker buildx ls lists the builders; without BUILDX_BUILDER the tool creates its own",
            )
        if driver == _WITHOUT_LAYOUT:
            raise BuildFailed(
                f"cannot {what}: builder {name} has the driver {driver}, which cannot report an image's digest",
                next_step="unset BUILDX_BUILDER: the tool then creates its own builder"
                if chosen
                else f"docker buildx rm {name}, then run the command again: the tool creates its own builder",
            )
        return name

    def _driver(self, builder: str) -> str | None:
        """Return the driver of a builder; None if it does not exist."""
        lines: list[str] = []
        ended = self._run(("docker", "buildx", "inspect", builder), "ask for the builder", lines.append)
        found = (line.partition(":")[2].strip() for line in lines if line.startswith("Driver:"))
        return next(found, None) if ended.exit_code == 0 else None

    def _advice(self, lines: tuple[str, ...]) -> str | None:
        text = "\n".join(lines)
        if "exec format error" in text:
            return (
                f"this machine cannot run programs of {self._platform}: build on one that can (GitHub's runner "
                "ubuntu-24.04-arm for linux/arm64), or install QEMU's binary formats"
            )
        return None

    def _run(self, command: tuple[str, ...], what: str, line: Callable[[str], None]) -> command_line.Ended:
        return command_line.run(
            command,
            folder=self._root,
            # Fixes every timestamp in the image, so that the same files give the same digest.
            environment={**os.environ, "SOURCE_DATE_EPOCH": "0"},
            line=line,
            timeout_seconds=self._timeout_seconds,
            what=what,
            cancelled=self._cancelled,
        )
