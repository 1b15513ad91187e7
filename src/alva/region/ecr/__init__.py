"""ECR's registry: the server for `docker push`, `skopeo copy` and other clients, at a repository's URI."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from typing import TYPE_CHECKING

from alva.region.aws_error import AwsError
from alva.region.background import end
from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.ecr.lifecycle import expired
from alva.region.ecr.registry import SIGNATURE, Registry
from alva.region.images.blobs import Blobs
from alva.region.images.pushed import prune
from alva.region.validation import Answer, Forward, Json, Rules, guard_json

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
        self._blobs = Blobs(region.config.images_folder)
        self._host = f"127.0.0.1:{region.config.api_port}"
        self._password = secrets.token_urlsafe(24)
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Serve the registry, and return its address from ECR's API."""
        from ministack import app

        answers = {
            "CreateRepository": self._repository("CreateRepository"),
            "DeleteRepository": self._repository("DeleteRepository"),
            "DescribeImages": self._describe_images,
            "DescribeRepositories": self._repositories,
            "GetAuthorizationToken": self._authorization_token,
            "GetDownloadUrlForLayer": self._download_url,
        }
        rules = Rules(code="InvalidParameterException", answers=answers)
        app.SERVICE_HANDLERS["ecr"] = guard_json("ecr", rules, app.SERVICE_HANDLERS["ecr"])
        self._region.serve_registry = Registry(
            self._blobs,
            self._region.config,
            self._password,
            changed=self._region.persistence.mark_changed,
        )

    async def start(self) -> None:
        """Delete unfinished uploads of an earlier run, and expire images once a day."""
        self._blobs.clear_uploads()
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

    def _repository(self, action: str) -> Answer:
        async def answer(request: Json, forward: Forward) -> Json:
            return {"repository": self._with_uri((await forward(action, request))["repository"])}

        return answer

    async def _repositories(self, request: Json, forward: Forward) -> Json:
        answer = await forward("DescribeRepositories", request)
        return {**answer, "repositories": [self._with_uri(each) for each in answer["repositories"]]}

    def _with_uri(self, repository: Json) -> Json:
        return {**repository, "repositoryUri": f"{self._host}/{repository['repositoryName']}"}

    async def _describe_images(self, request: Json, forward: Forward) -> Json:
        """DescribeImages: an image that does not exist is an error."""
        name = request["repositoryName"]
        wanted = {"repositoryName": name, "imageIds": request.get("imageIds", [])}
        for each in (await forward("BatchGetImage", wanted))["failures"]:
            digest, tag = (each["imageId"].get(key, "null") for key in ("imageDigest", "imageTag"))
            raise AwsError(
                "ImageNotFoundException",
                f"The image with imageId {{imageDigest:'{digest}', imageTag:'{tag}'}} does not exist within the "
                f"repository with name '{name}' in the registry with id '{self._region.config.account_id}'",
            )
        return await forward("DescribeImages", request)

    async def _authorization_token(self, request: Json, forward: Forward) -> Json:
        answer = await forward("GetAuthorizationToken", request)
        token = base64.b64encode(f"AWS:{self._password}".encode()).decode()
        own = {"authorizationToken": token, "proxyEndpoint": f"http://{self._host}"}
        return {"authorizationData": [{**each, **own} for each in answer["authorizationData"]]}

    async def _download_url(self, request: Json, forward: Forward) -> Json:
        """GetDownloadUrlForLayer: the address at the registry, with the password."""
        answer = await forward("GetDownloadUrlForLayer", request)
        name, digest = request["repositoryName"], request["layerDigest"]
        try:
            is_known = self._blobs.has(name, digest) or await self._link_built(name, digest, forward)
        except ValueError:  # not a SHA-256 digest
            is_known = False
        if not is_known:
            raise AwsError(
                "LayersNotFoundException",
                f"The layer with digest '{digest}' could not be found, or is not valid for this repository.",
            )
        return {**answer, "downloadUrl": f"http://{self._host}/v2/{name}/blobs/{digest}?{SIGNATURE}={self._password}"}

    async def _link_built(self, repository: str, digest: str, forward: Forward) -> bool:
        """Add the configuration of an image that was built here and registered only with PutImage."""
        ids = (await forward("ListImages", {"repositoryName": repository}))["imageIds"]
        images = (await forward("BatchGetImage", {"repositoryName": repository, "imageIds": ids}))["images"]
        if not any(digest in image["imageManifest"] for image in images) or not self._blobs.file(digest).is_file():
            return False
        self._blobs.link(repository, digest)
        return True
