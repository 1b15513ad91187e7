"""Images in their repositories: found by digest, and tagged once they are released."""

from __future__ import annotations

import hashlib
import json

from alva.aws import Aws
from alva.release.images import mark_released

OCI = "application/vnd.oci.image.manifest.v1+json"


def push(aws: Aws, repository: str, content: str) -> str:
    """Push an image to a repository with immutable tags; return its digest."""
    manifest = json.dumps({"schemaVersion": 2, "mediaType": OCI, "config": {"content": content}, "layers": []})
    aws.ecr.put_image(
        repositoryName=repository,
        imageManifest=manifest,
        imageManifestMediaType=OCI,
        imageTag=hashlib.sha256(manifest.encode()).hexdigest()[:20],
    )
    return "sha256:" + hashlib.sha256(manifest.encode()).hexdigest()


def released(aws: Aws, repository: str, digest: str) -> list[str]:
    (image,) = aws.ecr.describe_images(repositoryName=repository, imageIds=[{"imageDigest": digest}])["imageDetails"]
    return sorted(tag for tag in image["imageTags"] if tag.startswith("released-"))


def repository_of(aws: Aws, name: str) -> str:
    aws.ecr.create_repository(repositoryName=name, imageTagMutability="IMMUTABLE")
    return name


def test_released_image_keeps_its_digest_and_gets_a_tag_once(aws: Aws, name: str) -> None:
    repository = repository_of(aws, name)
    digest, other = push(aws, repository, "one"), push(aws, repository, "two")
    assert mark_released(aws, repository, digest, 7, is_new=True) == "released-7"
    assert mark_released(aws, repository, digest, 7, is_new=True) == "released-7"
    assert released(aws, repository, digest) == ["released-7"]
    assert released(aws, repository, other) == []
    images = aws.ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert {image["imageDigest"] for image in images} == {digest, other}, "a tag does not create an image"


def test_running_image_gets_no_further_tag_and_a_restored_one_gets_another(aws: Aws, name: str) -> None:
    repository = repository_of(aws, name)
    digest = push(aws, repository, "one")
    assert mark_released(aws, repository, digest, 1, is_new=False) == "released-1", "it had no tag, and must not expire"
    assert mark_released(aws, repository, digest, 2, is_new=False) is None
    assert mark_released(aws, repository, digest, 3, is_new=True) == "released-3"
    assert released(aws, repository, digest) == ["released-1", "released-3"]


def test_number_of_another_image_is_not_reused(aws: Aws, name: str) -> None:
    repository = repository_of(aws, name)
    first, second = push(aws, repository, "one"), push(aws, repository, "two")
    mark_released(aws, repository, first, 1, is_new=True)
    tag = mark_released(aws, repository, second, 1, is_new=True)
    assert tag == f"released-1-{second[7:27]}"
    assert released(aws, repository, first) == ["released-1"]
    assert released(aws, repository, second) == [tag]
