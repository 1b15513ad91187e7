"""Registers an image's manifest in ECR, under the digest that identifies the image everywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from alva.region.images.store import Image

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient


def push(image: Image, repository: str, tags: Sequence[str], client: ECRClient) -> str:
    """Register `image` in the ECR repository under each of `tags` and return its digest. Idempotent.

    Without a tag it is registered by digest alone. Raises ECR's ClientError
    (RepositoryNotFoundException, or ImageTagAlreadyExistsException where an immutable tag names another image).
    """
    known = _known_tags(image, repository, client)
    missing: list[str | None] = [tag for tag in tags if known is None or tag not in known]
    if known is None and not missing:
        missing = [None]
    for tag in missing:
        client.put_image(
            repositoryName=repository,
            imageManifest=image.manifest,
            imageManifestMediaType=json.loads(image.manifest)["mediaType"],
            imageDigest=image.digest,
            **({"imageTag": tag} if tag is not None else {}),
        )
    return image.digest


def _known_tags(image: Image, repository: str, client: ECRClient) -> set[str] | None:
    """The image's tags in the repository; None if the repository does not have the image."""
    try:
        answer = client.describe_images(repositoryName=repository, imageIds=[{"imageDigest": image.digest}])
    except client.exceptions.ImageNotFoundException:
        return None
    details = answer["imageDetails"]
    return {tag for detail in details for tag in detail.get("imageTags", [])} if details else None
