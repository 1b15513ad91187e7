"""An image that `push` registers has the same digest in ECR, in the store and for tasks."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError

from alva.region.images import ImageStore, push
from alva.region.images.store import Configuration

pytestmark = pytest.mark.region


def test_pushed_image_is_found_in_ecr_by_digest_and_tag(region: Any, project: Any) -> None:
    ecr = region.client("ecr")
    ecr.create_repository(repositoryName="images/first")
    image = project.build()
    assert push(image, "images/first", ["v1"], ecr) == image.digest
    for wanted in ({"imageDigest": image.digest}, {"imageTag": "v1"}):
        (found,) = ecr.batch_get_image(repositoryName="images/first", imageIds=[wanted])["images"]
        assert found["imageId"]["imageDigest"] == image.digest
        assert found["imageManifest"] == image.manifest
        assert json.loads(found["imageManifest"])["schemaVersion"] == 2


def test_push_may_be_repeated_into_a_repository_with_immutable_tags(region: Any, project: Any) -> None:
    ecr = region.client("ecr")
    ecr.create_repository(repositoryName="images/immutable", imageTagMutability="IMMUTABLE")
    image = project.build()
    for tags in (["v1"], ["v1"], ["v1", "v2"], []):
        push(image, "images/immutable", tags, ecr)
    (details,) = ecr.describe_images(repositoryName="images/immutable")["imageDetails"]
    assert sorted(details["imageTags"]) == ["v1", "v2"]

    project.write("service/__main__.py", "print('other')")
    with pytest.raises(ClientError, match="ImageTagAlreadyExists"):
        push(project.build(), "images/immutable", ["v1"], ecr)


def test_image_without_a_tag_is_registered_by_digest(region: Any, project: Any) -> None:
    ecr = region.client("ecr")
    ecr.create_repository(repositoryName="images/untagged")
    image = project.build()
    push(image, "images/untagged", [], ecr)
    (details,) = ecr.describe_images(repositoryName="images/untagged")["imageDetails"]
    assert details["imageDigest"] == image.digest


def test_unknown_repository_raises_ecrs_error(region: Any, project: Any) -> None:
    with pytest.raises(ClientError, match="RepositoryNotFoundException"):
        push(project.build(), "images/nowhere", ["v1"], region.client("ecr"))


def test_configuration_of_a_built_image_is_read_at_the_url_that_ecr_gives(region: Any) -> None:
    ecr, store = region.client("ecr"), ImageStore(region.config.images_folder)
    ecr.create_repository(repositoryName="images/configuration")
    ecr.create_repository(repositoryName="images/another")
    image = store.add(Configuration(base="python", entrypoint=("python3",)), [])
    push(image, "images/configuration", ["v1"], ecr)
    layer = {"repositoryName": "images/configuration", "layerDigest": image.configuration_digest}
    with urllib.request.urlopen(ecr.get_download_url_for_layer(**layer)["downloadUrl"], timeout=10) as answer:
        assert json.loads(answer.read())["config"]["Entrypoint"] == ["python3"]
    for unknown in ({"layerDigest": "sha256:" + "1" * 64}, {"repositoryName": "images/another"}):
        with pytest.raises(ClientError, match="LayersNotFoundException"):
            ecr.get_download_url_for_layer(**{**layer, **unknown})
