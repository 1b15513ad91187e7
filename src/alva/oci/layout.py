"""An OCI image layout: a folder with one image, whose parts are files named by their digests.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from alva.errors import BuildFailed

IMAGE_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Media types of an image's manifest."""
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
"""Media types of an index: manifests for several platforms, or with attestations."""


@dataclass(frozen=True)
class Layout:
    """The image of a layout. Its content was compared with its digest."""

    folder: Path
    digest: str
    """sha256:... of the manifest, which identifies the image in a registry."""
    manifest: bytes
    media_type: str
    config_digest: str
    layers: tuple[str, ...]
    """Digests of the compressed layers, the lowest first."""
    platform: str
    """The platform of the image's configuration: `linux/amd64`."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the image in `folder`. Raises BuildFailed unless there is exactly one, with the right digest."""
        try:
            descriptors = json.loads((folder / "index.json").read_text())["manifests"]
            if len(descriptors) != 1:
                raise BuildFailed(
                    f"cannot read the digest of the built image: its layout has {len(descriptors)} manifests, not one",
                    next_step="build for one platform, without attestations",
                )
            digest = descriptors[0]["digest"]
            text = cls._checked(folder, digest)
            manifest: dict[str, Any] = json.loads(text)
            media_type = manifest.get("mediaType") or descriptors[0]["mediaType"]
            if media_type not in IMAGE_TYPES:
                raise BuildFailed(
                    f"cannot read the digest of the built image: it is {media_type}, not one image",
                    next_step="build for one platform, without attestations",
                )
            config_digest = manifest["config"]["digest"]
            config = json.loads(cls._checked(folder, config_digest))
            return cls(
                folder=folder,
                digest=digest,
                manifest=text,
                media_type=media_type,
                config_digest=config_digest,
                layers=tuple(layer["digest"] for layer in manifest["layers"]),
                platform=f"{config['os']}/{config['architecture']}",
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BuildFailed(
                f"cannot read the image that was built in {folder}", evidence=[f"{type(error).__name__}: {error}"]
            ) from error

    def blob(self, digest: str) -> Path:
        """Return the file with that digest."""
        return blob_file(self.folder, digest)

    @staticmethod
    def _checked(folder: Path, digest: str) -> bytes:
        content = blob_file(folder, digest).read_bytes()
        if digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
            raise ValueError(f"the content of {digest} has another digest")
        return content


def blob_file(folder: Path, digest: str) -> Path:
    """Return the file of a digest in a layout. Raises ValueError for an invalid SHA-256 digest."""
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError(f"{digest!r} is not a SHA-256 digest")
    return folder / "blobs" / algorithm / value
