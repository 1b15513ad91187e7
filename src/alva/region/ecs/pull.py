"""Pulls images and secrets for a task, with AWS's error messages.

The messages are the Fargate agent's, from "Amazon ECS stopped task error messages":
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass

from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.ecs.errors import TaskStartError
from alva.region.ecs.model import Json
from alva.region.ecs.permissions import Role
from alva.region.images.pushed import NotRunnable, find_pushed
from alva.region.images.store import Image, ImageStore

_ECR_REFERENCE = re.compile(
    r"(?P<registry>\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com|127\.0\.0\.1:\d+)/(?P<repository>[a-z0-9._/-]+)"
    r"(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)

_SECRETS_PREFIX = (
    "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
)


async def pull_image(
    control_plane: ControlPlane, store: ImageStore, role: Role, reference: str, container: str
) -> Image:
    """The image that `reference` names in ECR, from the region's image store.

    Raises TaskStartError with CannotPullContainerError: no such repository, tag or digest; not an ECR image; a digest
    in ECR's records that the store lacks. The execution role must allow the pull.
    """
    match = _ECR_REFERENCE.fullmatch(reference)
    if match is None:
        raise TaskStartError(
            "CannotPullContainerError: pull image manifest has been retried 1 time(s): "
            f"failed to resolve ref {reference}: "
            "the local region pulls from its own ECR alone (ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY)",
            container,
        )
    wanted = {"imageDigest": match["digest"]} if match["digest"] else {"imageTag": match["tag"] or "latest"}
    not_found = TaskStartError(
        "CannotPullContainerError: pull image manifest has been retried 1 time(s): "
        f"failed to resolve ref {reference}: {reference}: not found",
        container,
    )
    _check_pull(role, control_plane, match["repository"], reference, container)
    try:
        answer = await control_plane.call("ecr", "BatchGetImage", repositoryName=match["repository"], imageIds=[wanted])
    except ServiceError as error:
        if error.code == "RepositoryNotFoundException":
            raise TaskStartError(
                f"CannotPullContainerError: The repository with name '{match['repository']}' does not exist in the "
                f"registry with id '{control_plane.account_id}'",
                container,
            ) from error
        raise TaskStartError(f"CannotPullContainerError: {error}", container) from error
    if not answer.get("images"):
        raise not_found
    digest = answer["images"][0]["imageId"]["imageDigest"]
    image = store.find(digest)
    try:
        image = image or await asyncio.to_thread(find_pushed, store, digest)
    except (NotRunnable, OSError) as error:
        raise TaskStartError(f"CannotPullContainerError: {error}", container) from error
    if image is None:
        raise not_found
    return image


def _check_pull(role: Role, control_plane: ControlPlane, repository: str, reference: str, container: str) -> None:
    """Raise TaskStartError, as the agent does, if the role may not log in to ECR or read the repository."""
    try:
        role.check("ecr:GetAuthorizationToken", "*")
    except ServiceError as error:
        raise TaskStartError(
            f"{_SECRETS_PREFIX}unable to retrieve ecr registry auth: service call has been retried 1 time(s): {error}"
        ) from error
    arn = f"arn:aws:ecr:{control_plane.region}:{control_plane.account_id}:repository/{repository}"
    try:
        for action in ("BatchGetImage", "GetDownloadUrlForLayer"):
            role.check(f"ecr:{action}", arn)
    except ServiceError as error:
        raise TaskStartError(
            "CannotPullContainerError: pull image manifest has been retried 1 time(s): "
            f"failed to resolve ref {reference}: 403 Forbidden: {error}",
            container,
        ) from error


@dataclass(frozen=True)
class SecretReference:
    """A `valueFrom`: a Secrets Manager ARN with an optional JSON key, stage and version; or an SSM parameter."""

    service: str
    identifier: str
    json_key: str = ""
    version_stage: str = ""
    version_id: str = ""

    @classmethod
    def parse(cls, value_from: str) -> SecretReference:
        """Read `arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX[:key:stage:version]`, or an SSM ARN or name.

        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html
        """
        parts = value_from.split(":")
        if len(parts) >= 7 and parts[2] == "secretsmanager":
            key, stage, version = ([*parts[7:], "", "", ""])[:3]
            return cls("secretsmanager", ":".join(parts[:7]), key, stage, version)
        if len(parts) >= 6 and parts[2] == "ssm":
            return cls("ssm", parts[5].removeprefix("parameter"))
        return cls("ssm", value_from)


async def pull_secret(control_plane: ControlPlane, role: Role, value_from: str) -> str:
    """The value of one `secrets` entry. Raises TaskStartError with ResourceInitializationError.

    The execution role must allow the call.
    """
    reference = SecretReference.parse(value_from)
    if reference.service == "ssm":
        return await _pull_parameter(control_plane, role, reference.identifier)
    asm = _SECRETS_PREFIX + "unable to retrieve secret from asm: service call has been retried 1 time(s): "
    arguments = {"SecretId": reference.identifier}
    if reference.version_stage:
        arguments["VersionStage"] = reference.version_stage
    if reference.version_id:
        arguments["VersionId"] = reference.version_id
    try:
        role.check("secretsmanager:GetSecretValue", reference.identifier)
        secret = await control_plane.call("secretsmanager", "GetSecretValue", **arguments)
    except ServiceError as error:
        raise TaskStartError(
            f"{asm}failed to fetch secret {reference.identifier} from secrets manager: {error}"
        ) from error
    value = str(secret.get("SecretString", ""))
    if not reference.json_key:
        return value
    try:
        content: Json = json.loads(value)
        found = content[reference.json_key]
    except (ValueError, KeyError, TypeError) as error:
        raise TaskStartError(
            f"{asm}retrieved secret from Secrets Manager did not contain json key {reference.json_key}"
        ) from error
    return found if isinstance(found, str) else json.dumps(found)


async def _pull_parameter(control_plane: ControlPlane, role: Role, name: str) -> str:
    ssm = _SECRETS_PREFIX + "unable to retrieve secrets from ssm: service call has been retried 1 time(s): "
    arn = f"arn:aws:ssm:{control_plane.region}:{control_plane.account_id}:parameter/{name.removeprefix('/')}"
    try:
        role.check("ssm:GetParameters", arn)
        answer = await control_plane.call("ssm", "GetParameters", Names=[name], WithDecryption=True)
    except ServiceError as error:
        raise TaskStartError(f"{ssm}{error}") from error
    if not answer.get("Parameters"):
        raise TaskStartError(f"{ssm}invalid ssm parameters: {name}")
    return str(answer["Parameters"][0]["Value"])
