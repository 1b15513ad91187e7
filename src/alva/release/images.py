"""The images of a release: building, pushing to ECR, and reading, by digest."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from alva.aws import Aws, error_code, explained
from alva.errors import AlvaError
from alva.release.manifest import Service

Line = Callable[[str], None]


class Builder(Protocol):
    """Builds a service's image. The command line passes one to the engine."""

    def build(self, service: Service, line: Line) -> str:
        """Build the image and return its digest ("sha256:..."); raises BuildFailed. Thread-safe."""

    def has(self, digest: str) -> bool:
        """Whether this builder has the image and can push it."""

    def find_folder(self, digest: str, path: str) -> Path | None:
        """Return the folder at `path` in the image, readable on this machine; None if there is none."""

    def push(self, service: Service, digest: str, tag: str, aws: Aws) -> None:
        """Push the built image to the service's repository."""


def tag_of(digest: str) -> str:
    """Return the tag of a digest, which contains the digest because tags are immutable."""
    return digest.removeprefix("sha256:")[:20]


def is_published(aws: Aws, repository: str, digest: str) -> bool:
    """Whether the repository has the image; False also without a repository."""
    with explained(f"find the image in repository {repository}"):
        try:
            found = aws.ecr.describe_images(repositoryName=repository, imageIds=[{"imageDigest": digest}])
        except Exception as error:
            if error_code(error) in ("ImageNotFoundException", "RepositoryNotFoundException"):
                return False
            raise
    return any(image.get("imageDigest") == digest for image in found["imageDetails"])


RELEASED = "released-"
"""The prefix of a released image's tag: lifecycle rules expire only builds that were never released
(`infrastructure/lib/stacks/registry_stack.py`).
"""

MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
"""The manifest types to accept: ECR converts a manifest of another type, which changes its digest."""


def mark_released(aws: Aws, repository: str, digest: str, release: int, *, is_new: bool) -> str | None:
    """Tag an image as released; return the tag, or None if no new tag was needed.

    `is_new` is whether the service ran another image before. An image that keeps running does not get a tag for each
    release: an image can have 1,000 tags (AWS: "Amazon ECR service quotas"), and this tool deletes none. The tag is
    added by putting the same manifest again, which a repository with immutable tags allows (AWS: "Retagging an image in
    Amazon ECR"). Safe to repeat; raises AlvaError.
    """
    with explained(f"tag {repository}@{digest[:19]} as released"):
        (image,) = aws.ecr.describe_images(repositoryName=repository, imageIds=[{"imageDigest": digest}])[
            "imageDetails"
        ]
        if not is_new and any(tag.startswith(RELEASED) for tag in image.get("imageTags", [])):
            return None
        tag = f"{RELEASED}{release}"
        if _tag(aws, repository, digest, tag):
            return tag
        # A new ledger with old images: release numbers repeat.
        tag = f"{tag}-{tag_of(digest)}"
        _tag(aws, repository, digest, tag)
        return tag


def read_manifest(aws: Aws, repository: str, digest: str) -> dict[str, Any] | None:
    """Return the manifest or index of an image in its repository; None if there is none."""
    with explained(f"read the image {repository}@{digest[:19]}"):
        found = aws.ecr.batch_get_image(
            repositoryName=repository, imageIds=[{"imageDigest": digest}], acceptedMediaTypes=list(MANIFEST_TYPES)
        )["images"]
    manifest: dict[str, Any] | None = json.loads(found[0]["imageManifest"]) if found else None
    return manifest


def open_blob(aws: Aws, repository: str, digest: str) -> IO[bytes]:
    """Open a layer or configuration of a repository. Raises AlvaError, or OSError where its URL does not answer."""
    with explained(f"read {digest[:19]} of {repository}"):
        url = aws.ecr.get_download_url_for_layer(repositoryName=repository, layerDigest=digest)["downloadUrl"]
    opened: IO[bytes] = urllib.request.urlopen(url, timeout=30)  # noqa: S310  (ECR gives an https address)
    return opened


def layers(aws: Aws, repository: str, digest: str) -> Iterator[IO[bytes]]:
    """Yield the layers of an image in its repository, the lowest first; each is open until the next one.

    Of an index, the first image for Linux. Raises AlvaError, or OSError where a URL does not answer.
    """
    manifest = read_manifest(aws, repository, digest) or {}
    for each in manifest.get("manifests", []):
        if each.get("platform", {}).get("os") == "linux":
            manifest = read_manifest(aws, repository, each["digest"]) or {}
            break
    for layer in manifest.get("layers", []):
        with open_blob(aws, repository, layer["digest"]) as stream:
            yield stream


def _tag(aws: Aws, repository: str, digest: str, tag: str) -> bool:
    """Tag an image; False if another image has the tag."""
    found = aws.ecr.batch_get_image(
        repositoryName=repository, imageIds=[{"imageDigest": digest}], acceptedMediaTypes=list(MANIFEST_TYPES)
    )
    if not found["images"]:
        raise AlvaError(
            f"cannot read the manifest of {repository}@{digest[:19]}",
            evidence=[f"{f.get('failureCode')}: {f.get('failureReason')}" for f in found.get("failures", [])],
        )
    image = found["images"][0]
    try:
        aws.ecr.put_image(
            repositoryName=repository,
            imageManifest=image["imageManifest"],
            imageManifestMediaType=image["imageManifestMediaType"],
            imageTag=tag,
            imageDigest=digest,
        )
    except Exception as error:
        if error_code(error) == "ImageAlreadyExistsException":
            return True
        if error_code(error) != "ImageTagAlreadyExistsException":
            raise
        tagged = aws.ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
        return any(each.get("imageDigest") == digest for each in tagged)
    return True
