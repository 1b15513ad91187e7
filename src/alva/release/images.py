"""Where the images of a release come from, and their way into ECR, by digest."""

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
    """Makes a service's image. The CLI gives one to the engine: without Docker for the local region."""

    def build(self, service: Service, line: Line) -> str:
        """Build the image and return its digest ("sha256:..."); raises BuildFailed. Safe to call side by side."""

    def has(self, digest: str) -> bool:
        """Whether this builder holds the image, and so could push it."""

    def find_folder(self, digest: str, path: str) -> Path | None:
        """The folder at `path` inside the image, as it can be read here; None when it cannot."""

    def push(self, service: Service, digest: str, tag: str, aws: Aws) -> None:
        """Put the built image into the service's repository."""


def tag_of(digest: str) -> str:
    """The tag of a digest: made from it, since repositories do not let a tag move."""
    return digest.removeprefix("sha256:")[:20]


def is_published(aws: Aws, repository: str, digest: str) -> bool:
    """Whether the repository has the image; False also when there is no such repository yet."""
    with explained(f"look for an image in repository {repository}"):
        try:
            found = aws.ecr.describe_images(repositoryName=repository, imageIds=[{"imageDigest": digest}])
        except Exception as error:
            if error_code(error) in ("ImageNotFoundException", "RepositoryNotFoundException"):
                return False
            raise
    return any(image.get("imageDigest") == digest for image in found["imageDetails"])


RELEASED = "released-"
"""What the tag of an image that was released begins with: the repositories' lifecycle rules keep such images apart from
builds that never ran (`infrastructure/lib/stacks/registry_stack.py`)."""

MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
"""What BatchGetImage may answer with: ECR translates a manifest whose type is not accepted, and its digest with it."""


def mark_released(aws: Aws, repository: str, digest: str, release: int, *, is_new: bool) -> str | None:
    """Tag an image as released; the tag, or None where it has one and nothing was to be said anew.

    `is_new` is whether the service ran another image before. One that keeps running gets no tag by every release: an
    image can have 1,000 (AWS: "Amazon ECR service quotas"), and no tag is ever taken away here. A tag is added by
    putting the same manifest again, which a repository with immutable tags allows
    (AWS: "Retagging an image in Amazon ECR"). Safe to repeat; raises AlvaError.
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
        # The ledger was begun anew while the images stayed: release numbers came back.
        tag = f"{tag}-{tag_of(digest)}"
        _tag(aws, repository, digest, tag)
        return tag


def read_manifest(aws: Aws, repository: str, digest: str) -> dict[str, Any] | None:
    """The manifest of an image in its repository, or an index of them; None where it is not there."""
    with explained(f"read the image {repository}@{digest[:19]}"):
        found = aws.ecr.batch_get_image(
            repositoryName=repository, imageIds=[{"imageDigest": digest}], acceptedMediaTypes=list(MANIFEST_TYPES)
        )["images"]
    manifest: dict[str, Any] | None = json.loads(found[0]["imageManifest"]) if found else None
    return manifest


def open_blob(aws: Aws, repository: str, digest: str) -> IO[bytes]:
    """A layer or configuration in a repository. Raises AlvaError, or OSError where its address does not answer."""
    with explained(f"read {digest[:19]} of {repository}"):
        url = aws.ecr.get_download_url_for_layer(repositoryName=repository, layerDigest=digest)["downloadUrl"]
    opened: IO[bytes] = urllib.request.urlopen(url, timeout=30)  # noqa: S310  (ECR gives an https address)
    return opened


def layers(aws: Aws, repository: str, digest: str) -> Iterator[IO[bytes]]:
    """The layers of an image in its repository, the lowest first, each open until the next is asked for.

    Of an index, the first image for Linux. Raises AlvaError, or OSError where an address does not answer.
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
    """Give an image a tag; False when the tag is another image's."""
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
