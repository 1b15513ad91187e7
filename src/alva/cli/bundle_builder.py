"""Builds images for the local region without Docker, into the region's image store, and registers them with ECR."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Event, Timer

from alva.aws import Aws, explained
from alva.errors import AlvaError, BuildFailed, TimedOut
from alva.region.images import ImageStore, build, push
from alva.release.manifest import Service

BUILD_TIMEOUT_SECONDS = 1200.0
"""The time limit of a build, as with Docker."""


class BundleBuilder:
    """A `release.images.Builder` that uses the region's own builder."""

    def __init__(
        self,
        root: Path,
        store_folder: Path,
        cancelled: Event | None = None,
        timeout_seconds: float = BUILD_TIMEOUT_SECONDS,
    ) -> None:
        self._root = root
        self._timeout_seconds = timeout_seconds
        self._cancelled = cancelled
        self._store = ImageStore(store_folder)

    def build(self, service: Service, line: Callable[[str], None]) -> str:
        """Build from the service's Dockerfile and context; return the image's digest."""
        dockerfile = self._root / service.dockerfile
        if not dockerfile.exists():
            raise BuildFailed(
                f"cannot build {service.name}: {service.dockerfile} does not exist",
                next_step="create it, or set context and dockerfile of the service's entry "
                "(infrastructure/lib/config/services.py)",
            )
        # When the caller stops waiting, the build ends with the other builds.
        cancelled, late = self._cancelled or Event(), Event()

        def end() -> None:
            late.set()
            cancelled.set()

        deadline = Timer(self._timeout_seconds, end)
        deadline.daemon = True
        deadline.start()
        try:
            return build(
                dockerfile, self._root / service.context, self._store, on_line=line, cancelled=cancelled
            ).digest
        except AlvaError as error:
            if not late.is_set():
                raise
            raise TimedOut(
                f"cannot build {service.name}: it is still running after {self._timeout_seconds:.0f} s",
                evidence=error.evidence,
            ) from error
        finally:
            deadline.cancel()

    def has(self, digest: str) -> bool:
        """Whether the image store has the image."""
        return self._store.find(digest) is not None

    def find_folder(self, digest: str, path: str) -> Path | None:
        """Return the folder of the image, merged from its layers."""
        image = self._store.find(digest)
        inside = path.lstrip("/")
        folders = [each / inside for each in (image.layers if image is not None else ()) if (each / inside).is_dir()]
        if len(folders) < 2:
            return folders[0] if folders else None
        joined = Path(tempfile.mkdtemp(prefix="alva-folder-"))
        weakref.finalize(self, shutil.rmtree, joined, ignore_errors=True)
        for folder in folders:
            shutil.copytree(folder, joined, dirs_exist_ok=True)
        return joined

    def push(self, service: Service, digest: str, tag: str, aws: Aws) -> None:
        """Register the image in the service's repository."""
        image = self._store.find(digest)
        if image is None:
            raise BuildFailed(
                f"cannot push {service.name}: the image store does not have {digest}", next_step="./alva up"
            )
        with explained(f"register the image of {service.name} with ECR"):
            push(image, service.repository, [tag], aws.ecr)
