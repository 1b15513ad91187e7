"""The image store: immutable layers and images by digest, shared by the builds that write and the tasks that run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image, ready to run: what a container runtime would know after pulling it."""

    digest: str
    """sha256:... of the manifest, as ECR computes it."""
    base: str
    """What the layers lie over: `SandboxSpec.base`."""
    layers: tuple[Path, ...]
    """Folders, the lowest first: `SandboxSpec.layers`."""
    environment: Mapping[str, str]
    """ENV, with the base's PATH."""
    working_directory: str
    user: tuple[int, int] | None
    """USER as numeric uid and gid; None is root."""
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    exposed_ports: tuple[int, ...]
    stop_signal: int
    labels: Mapping[str, str]
    manifest: str
    """The OCI image manifest, to be registered byte for byte (ECR PutImage's imageManifest)."""


class ImageStore:
    """Images in `folder` (RegionConfig.images_folder). Safe to use from several processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, digest: str) -> Image | None:
        """The image with that manifest digest ("sha256:..."), or None when the store does not have it whole."""
        raise NotImplementedError
