"""Images for the local region: built without Docker into the region's image store, registered with ECR by digest."""

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
"""How long one build may take, as with Docker."""


class BundleBuilder:
    """`release.images.Builder` with the region's own builder."""

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
        """Build from the service's Dockerfile, with its context; the image's digest."""
        dockerfile = self._root / service.dockerfile
        if not dockerfile.exists():
            raise BuildFailed(f"cannot build {service.name}: {service.dockerfile} does not exist")
        # Whoever waits for nothing more than this build still ends it: with the others, which are of no use without it.
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
                f"cannot build {service.name}: still at it after {self._timeout_seconds:.0f} s", evidence=error.evidence
            ) from error
        finally:
            deadline.cancel()

    def has(self, digest: str) -> bool:
        """Whether the image store holds it."""
        return self._store.find(digest) is not None

    def find_folder(self, digest: str, path: str) -> Path | None:
        """The folder as the image has it: what several layers have of it is put together in one."""
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
                f"cannot push {service.name}: the image store does not have {digest}", next_step="./alva up builds it"
            )
        with explained(f"register the image of {service.name} with ECR"):
            push(image, service.repository, [tag], aws.ecr)
