"""AWS::SecretsManager::Secret: as MiniStack's, corrected.

`Ref` is the ARN, GenerateSecretString is honoured whole (MiniStack ignores most of it), a generated value is kept when
only something else changes, and a secret that exists is not overwritten.
"""

from __future__ import annotations

import json
from typing import Any

from ministack.services import secretsmanager
from ministack.services.cloudformation import provisioners

from alva.region.cloudformation import registry
from alva.region.cloudformation.handler_failure import HandlerFailed, call_json
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned

HONOURED = {"Name", "Description", "SecretString", "GenerateSecretString", "KmsKeyId", "Tags"}
_PASSWORD_OPTIONS = (
    "PasswordLength",
    "ExcludeCharacters",
    "ExcludeNumbers",
    "ExcludePunctuation",
    "ExcludeUppercase",
    "ExcludeLowercase",
    "IncludeSpace",
    "RequireEachIncludedType",
)


async def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
    _refuse_unknown(properties)
    request: dict[str, Any] = {
        "Name": properties.get("Name") or provisioners._physical_name(stack_name, logical_id),
        "Tags": properties.get("Tags") or [],
    }
    # Without a value the secret has no version, as on AWS.
    if (value := await _value(properties)) is not None:
        request["SecretString"] = value
    for key in ("Description", "KmsKeyId"):
        if properties.get(key):
            request[key] = properties[key]
    answer = await call_json("secretsmanager", "CreateSecret", request)
    return answer["ARN"], {"Id": answer["ARN"]}


async def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    _refuse_unknown(new)
    request: dict[str, Any] = {"SecretId": physical_id}
    if old.get("Description") != new.get("Description"):
        request["Description"] = new.get("Description", "")
    if old.get("KmsKeyId") != new.get("KmsKeyId"):
        request["KmsKeyId"] = new.get("KmsKeyId")
    is_other = any(old.get(key) != new.get(key) for key in ("SecretString", "GenerateSecretString"))
    if is_other and (value := await _value(new)) is not None:
        request["SecretString"] = value
    await call_json("secretsmanager", "UpdateSecret", request)
    _, record = secretsmanager._resolve(physical_id)
    provisioners._reconcile_tag_list(record.setdefault("Tags", []), old, new)
    return physical_id, {"Id": physical_id}


async def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    # CloudFormation deletes without a recovery window.
    await call_json("secretsmanager", "DeleteSecret", {"SecretId": physical_id, "ForceDeleteWithoutRecovery": True})


async def _value(properties: Properties) -> str | None:
    """The secret's value as the template declares it, generated where it says so; None where it declares none."""
    generate = properties.get("GenerateSecretString")
    if generate is None:
        return str(properties["SecretString"]) if "SecretString" in properties else None
    if "SecretString" in properties:
        raise HandlerFailed("You can't specify both SecretString and GenerateSecretString", "InvalidRequest")
    options: dict[str, Any] = {}
    for key in _PASSWORD_OPTIONS:
        if key in generate:
            value = generate[key]
            options[key] = int(value) if key == "PasswordLength" else value
            if key.startswith(("ExcludeN", "ExcludeP", "ExcludeU", "ExcludeL", "Include", "Require")):
                options[key] = provisioners._cfn_bool(value)
    answer = await call_json("secretsmanager", "GetRandomPassword", options)
    password = answer["RandomPassword"]
    if "SecretStringTemplate" not in generate and "GenerateStringKey" not in generate:
        return str(password)
    try:
        document = json.loads(generate["SecretStringTemplate"])
        document[generate["GenerateStringKey"]] = password
    except (KeyError, ValueError, TypeError) as error:
        raise HandlerFailed(
            "SecretStringTemplate must be a JSON object and comes together with GenerateStringKey", "InvalidRequest"
        ) from error
    return json.dumps(document)


def _refuse_unknown(properties: Properties) -> None:
    if unknown := set(properties) - HONOURED:
        raise HandlerFailed(
            f"the local region does not honour {', '.join(sorted(unknown))} of AWS::SecretsManager::Secret",
            "InvalidRequest",
        )


def register() -> None:
    registry.register(
        "AWS::SecretsManager::Secret",
        Handlers(create=create, update=update, delete=delete, replacing_properties=("Name",)),
    )
