"""Images for the local region: built without Docker into the region's image store, registered with ECR by digest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

from alva.aws import Aws, explained
from alva.errors import BuildFailed
from alva.region.images import ImageStore, build, push
from alva.release.manifest import Service


class BundleBuilder:
    """`release.images.Builder` with the region's own builder."""

    def __init__(self, root: Path, store_folder: Path, cancelled: Event | None = None) -> None:
        self._root = root
        self._cancelled = cancelled
        self._store = ImageStore(store_folder)

    def build(self, service: Service, line: Callable[[str], None]) -> str:
        """Build from the service's Dockerfile, with the repository as context; the image's digest."""
        dockerfile = self._root / service.dockerfile
        if not dockerfile.exists():
            raise BuildFailed(f"cannot build {service.name}: {service.dockerfile} does not exist")
        return build(dockerfile, self._root, self._store, on_line=line, cancelled=self._cancelled).digest

    def has(self, digest: str) -> bool:
        """Whether the image store holds it."""
        return self._store.find(digest) is not None

    def find_folder(self, digest: str, path: str) -> Path | None:
        """The folder in the highest layer that has it."""
        image = self._store.find(digest)
        folders = [layer / path for layer in (image.layers if image is not None else ()) if (layer / path).is_dir()]
        return folders[-1] if folders else None

    def push(self, service: Service, digest: str, tag: str, aws: Aws) -> None:
        """Register the image in the service's repository."""
        image = self._store.find(digest)
        if image is None:
            raise BuildFailed(
                f"cannot push {service.name}: the image store does not have {digest}", next_step="./alva up builds it"
            )
        with explained(f"register the image of {service.name} with ECR"):
            push(image, service.repository, [tag], aws.ecr)
