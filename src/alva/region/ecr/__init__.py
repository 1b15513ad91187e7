"""ECR's registry: the server for `docker push`, `skopeo copy` and other clients, at a repository's URI."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alva.region.background import end
from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.ecr.lifecycle import expired
from alva.region.images.blobs import Blobs
from alva.region.images.pushed import prune

if TYPE_CHECKING:
    from alva.region.region import Region


FIRST_EXPIRY_SECONDS = 300.0
"""Delay before images first expire, so that services start first."""
EXPIRY_SECONDS = 86400.0
"""ECR expires an image within 24 hours after it meets its lifecycle policy."""


class ContainerRegistry:
    """Serves the registry under /v2/ at the API's port, and makes ECR's API return its address."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Serve the registry, and return its address from `repositoryUri` and GetAuthorizationToken."""
        from ministack.services import ecr

        from alva.region.ecr.registry import SIGNATURE, Registry

        blobs = Blobs(self._region.config.images_folder)
        host = f"127.0.0.1:{self._region.config.api_port}"
        password = secrets.token_urlsafe(24)
        shape, answer_token = ecr._repo_shape, ecr._get_authorization_token

        def local_shape(repository: dict[str, object]) -> dict[str, object]:
            return {**shape(repository), "repositoryUri": f"{host}/{repository['repositoryName']}"}

        def local_token(data: dict[str, object]) -> object:
            status, headers, body = answer_token(data)
            answer = json.loads(body)
            for each in answer["authorizationData"]:
                each["authorizationToken"] = base64.b64encode(f"AWS:{password}".encode()).decode()
                each["proxyEndpoint"] = f"http://{host}"
            return status, headers, json.dumps(answer).encode()

        download_url = ecr._get_download_url_for_layer

        def local_download_url(data: dict[str, object]) -> object:
            name, digest = str(data.get("repositoryName")), str(data.get("layerDigest"))
            images = ecr._images.get(name, [])
            if not _has(blobs, name, digest) and not _link_built(blobs, name, digest, images):
                refused: tuple[int, dict[str, str], bytes] = download_url(data)
                return refused if refused[0] != 200 else _layer_not_found(digest)
            url = f"http://{host}/v2/{name}/blobs/{digest}?{SIGNATURE}={password}"
            body = json.dumps({"downloadUrl": url, "layerDigest": digest}).encode()
            return 200, {"Content-Type": "application/x-amz-json-1.1"}, body

        describe_images = ecr._describe_images

        def local_images(data: dict[str, Any]) -> object:
            name, wanted = str(data.get("repositoryName")), data.get("imageIds") or []
            for each in wanted if name in ecr._repositories else []:
                if not ecr._find_image(name, each):
                    return _image_not_found(name, each, self._region.config.account_id)
            return describe_images(data)

        ecr._describe_images = local_images
        ecr._repo_shape, ecr._get_authorization_token = local_shape, local_token
        ecr._get_download_url_for_layer = local_download_url
        self._region.serve_registry = Registry(
            blobs,
            self._region.config,
            password,
            changed=self._region.persistence.mark_changed,
        )

    async def start(self) -> None:
        """Delete unfinished uploads of an earlier run, and expire images once a day."""
        Blobs(self._region.config.images_folder).clear_uploads()
        self._task = self._region.background.run_forever("expire images", self._expire_and_wait)

    async def stop(self) -> None:
        """Stop expiring images; the registry stops with the API."""
        await end(self._task)

    async def _expire_and_wait(self) -> None:
        await asyncio.sleep(FIRST_EXPIRY_SECONDS)
        await self.expire()
        await asyncio.sleep(EXPIRY_SECONDS)

    async def expire(self) -> int:
        """Apply the repositories' lifecycle policies and delete contents that no repository has; returns the bytes
        freed.

        Contents built or pushed within a week are kept: they may not be in a repository yet.
        """
        ecr = ControlPlane(self._region.config.account_id, self._region.config.region)
        kept: set[str] = set()
        for repository in (await ecr.call("ecr", "DescribeRepositories"))["repositories"]:
            name = repository["repositoryName"]
            images = (await ecr.call("ecr", "DescribeImages", repositoryName=name))["imageDetails"]
            try:
                policy = (await ecr.call("ecr", "GetLifecyclePolicy", repositoryName=name))["lifecyclePolicyText"]
            except ServiceError as error:
                if error.code != "LifecyclePolicyNotFoundException":
                    raise
                gone: list[str] = []
            else:
                gone = expired(images, policy, time.time())
            if gone:
                ids = [{"imageDigest": digest} for digest in gone]
                await ecr.call("ecr", "BatchDeleteImage", repositoryName=name, imageIds=ids)
                self._region.persistence.mark_changed()
            kept.update(image["imageDigest"] for image in images if image["imageDigest"] not in gone)
        return await asyncio.to_thread(prune, self._region.images, kept)


def _link_built(blobs: Blobs, repository: str, digest: str, images: Sequence[Mapping[str, Any]]) -> bool:
    """Add the configuration of an image that was built here and registered only with PutImage."""
    if not any(digest in image["imageManifest"] for image in images) or not blobs.file(digest).is_file():
        return False
    blobs.link(repository, digest)
    return True


def _image_not_found(name: str, wanted: Mapping[str, str], account_id: str) -> tuple[int, dict[str, str], bytes]:
    said = f"{{imageDigest:'{wanted.get('imageDigest', 'null')}', imageTag:'{wanted.get('imageTag', 'null')}'}}"
    message = (
        f"The image with imageId {said} does not exist within the repository with name '{name}' "
        f"in the registry with id '{account_id}'"
    )
    return _refusal("ImageNotFoundException", message)


def _layer_not_found(digest: str) -> tuple[int, dict[str, str], bytes]:
    message = f"The layer with digest '{digest}' could not be found, or is not valid for this repository."
    return _refusal("LayersNotFoundException", message)


def _refusal(code: str, message: str) -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({"__type": code, "message": message}).encode()
    return 400, {"Content-Type": "application/x-amz-json-1.1"}, body


def _has(blobs: Blobs, repository: str, digest: str) -> bool:
    try:
        return blobs.has(repository, digest)
    except ValueError:
        return False
