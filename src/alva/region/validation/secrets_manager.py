"""Secrets Manager's rules for names, versions and staging labels.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from alva.region.aws_error import AwsError

Json = dict[str, Any]
Forward = Callable[[str, Json], Awaitable[Json]]

_CURRENT = "AWSCURRENT"
_NAME = re.compile(r"[A-Za-z0-9/_+=.@!-]+")
_NAME_REFUSED = (
    "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!"
)


def check_name(request: Json) -> None:
    """https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html#SecretsManager-CreateSecret-request-Name"""
    if not _NAME.fullmatch(request["Name"]):
        raise AwsError("ValidationException", _NAME_REFUSED)
    check_one_value(request)


def check_one_value(request: Json) -> None:
    """A version has a string or a binary value, and not both; PutSecretValue needs one of them."""
    if request.get("SecretString") is not None and request.get("SecretBinary") is not None:
        raise AwsError("InvalidParameterException", "You can't specify both a binary secret value and a string.")


def check_put(request: Json) -> None:
    """https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html"""
    check_one_value(request)
    if not _has_value(request):
        raise AwsError("InvalidRequestException", "You must provide either SecretString or SecretBinary.")


def check_rotation(request: Json) -> None:
    """RotateSecret: it is refused, since there are no rotation functions here.

    https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_RotateSecret.html
    """
    if not request.get("RotationLambdaARN"):
        raise AwsError("InvalidRequestException", "No Lambda rotation function ARN is associated with this secret.")
    raise AwsError(
        "AccessDeniedException",
        "Secrets Manager cannot invoke the specified Lambda function. Ensure that the function policy grants access to "
        "the principal secretsmanager.amazonaws.com.",
    )


async def create(request: Json, forward: Forward) -> Json:
    """CreateSecret: a secret without a value has no version."""
    try:
        described = await forward("DescribeSecret", {"SecretId": request["Name"]})
    except AwsError:
        described = {}
    if described.get("DeletedDate"):
        raise AwsError(
            "InvalidRequestException",
            "You can't create this secret because a secret with this name is already scheduled for deletion.",
        )
    answer = await forward("CreateSecret", request)
    if not _has_value(request):
        version = answer.pop("VersionId")
        await forward(
            "UpdateSecretVersionStage",
            {"SecretId": answer["ARN"], "VersionStage": _CURRENT, "RemoveFromVersionId": version},
        )
    return answer


async def put(request: Json, forward: Forward) -> Json:
    """PutSecretValue: a staging label belongs to one version; the first version is always AWSCURRENT."""
    secret = request["SecretId"]
    listed = await forward("ListSecretVersionIds", {"SecretId": secret})
    before: dict[str, list[str]] = {each["VersionId"]: each["VersionStages"] for each in listed["Versions"]}
    token = request.get("ClientRequestToken")
    if token in before:
        return await _put_again(request, forward)
    labels = list(request.get("VersionStages") or [_CURRENT])
    if not any(before.values()) and _CURRENT not in labels:
        labels.append(_CURRENT)
    answer = await forward("PutSecretValue", {**request, "VersionStages": labels})
    version = answer["VersionId"]
    for label in labels:
        previous = next((each for each, its in before.items() if label in its), None)
        if label == _CURRENT or (previous is None and _CURRENT not in labels):
            continue
        move = {"SecretId": secret, "VersionStage": label, "MoveToVersionId": version}
        await forward("UpdateSecretVersionStage", {**move, "RemoveFromVersionId": previous} if previous else move)
    described = await forward("DescribeSecret", {"SecretId": secret})
    return {**answer, "VersionStages": described["VersionIdsToStages"][version]}


async def _put_again(request: Json, forward: Forward) -> Json:
    """A request with the token of an existing version: the same value succeeds, another one is refused."""
    token = request["ClientRequestToken"]
    stored = await forward("GetSecretValue", {"SecretId": request["SecretId"], "VersionId": token})
    if any(stored.get(name) != request.get(name) for name in ("SecretString", "SecretBinary")):
        raise AwsError(
            "ResourceExistsException",
            f"You can't use ClientRequestToken {token} because that value is already in use for a version of secret "
            f"{stored['ARN']}.",
        )
    return {name: stored[name] for name in ("ARN", "Name", "VersionId", "VersionStages")}


async def get_value(request: Json, forward: Forward) -> Json:
    """GetSecretValue: a version id and a staging label must refer to the same version."""
    version, label = request.get("VersionId"), request.get("VersionStage")
    missing = f"VersionId: {version}" if version else f"staging label: {label or _CURRENT}"
    try:
        answer = await forward("GetSecretValue", request)
    except AwsError as error:
        if error.code == "ResourceNotFoundException" and not error.message.endswith("the specified secret."):
            raise _no_value(missing) from error
        raise
    if version and label and label not in answer["VersionStages"]:
        raise AwsError(
            "InvalidRequestException", "You provided a VersionStage that is not associated to the provided VersionId."
        )
    if not _has_value(answer):
        raise _no_value(missing)
    return answer


async def delete(request: Json, forward: Forward) -> Json:
    """DeleteSecret: a forced deletion of an unknown secret is no error.

    https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DeleteSecret.html
    """
    try:
        return await forward("DeleteSecret", request)
    except AwsError as error:
        if error.code != "ResourceNotFoundException" or not request.get("ForceDeleteWithoutRecovery"):
            raise
        name = request["SecretId"]
        return {"ARN": name, "Name": name} if name.startswith("arn:") else {"Name": name}


async def list_versions(request: Json, forward: Forward) -> Json:
    """ListSecretVersionIds: versions without a label are returned only on request."""
    answer = await forward("ListSecretVersionIds", request)
    if not request.get("IncludeDeprecated"):
        answer["Versions"] = [each for each in answer["Versions"] if each["VersionStages"]]
    return answer


async def describe(request: Json, forward: Forward) -> Json:
    """DescribeSecret: members without a value are left out."""
    answer = await forward("DescribeSecret", request)
    return {name: value for name, value in answer.items() if value not in (None, "", {}, [], False)}


def _has_value(content: Mapping[str, Any]) -> bool:
    return content.get("SecretString") is not None or content.get("SecretBinary") is not None


def _no_value(what: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"Secrets Manager can't find the specified secret value for {what}")


CHECKS: Mapping[str, Callable[[Json], None]] = {
    "CreateSecret": check_name,
    "PutSecretValue": check_put,
    "RotateSecret": check_rotation,
    "UpdateSecret": check_one_value,
}
ANSWERS: Mapping[str, Callable[[Json, Forward], Awaitable[Json]]] = {
    "CreateSecret": create,
    "DeleteSecret": delete,
    "DescribeSecret": describe,
    "GetSecretValue": get_value,
    "ListSecretVersionIds": list_versions,
    "PutSecretValue": put,
}
