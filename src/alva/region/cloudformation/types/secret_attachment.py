"""AWS::SecretsManager::SecretTargetAttachment: adds the connection of a DB instance to a secret that is a JSON object.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
"""

from __future__ import annotations

import json
from typing import Any

from alva.region.cloudformation.handler_failure import HandlerFailed, call
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry

_TARGET = "AWS::RDS::DBInstance"
_MEMBERS = ("engine", "host", "port", "dbname", "dbInstanceIdentifier")


async def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return await _attach(properties["SecretId"], properties)


async def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return await _attach(physical_id, new)


async def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    try:
        await _rewrite(physical_id, {})
    except HandlerFailed as error:
        # A deleted secret, or one that no longer is a JSON object, has no connection to remove.
        if error.code not in ("NotFound", "InvalidRequest"):
            raise


async def _attach(secret_id: str, properties: Properties) -> Provisioned:
    if properties["TargetType"] != _TARGET:
        raise HandlerFailed(f"the local region attaches secrets only to {_TARGET}", "InvalidRequest")
    name = properties["TargetId"]
    (instance,) = (await call("rds", "DescribeDBInstances", {"DBInstanceIdentifier": name}))["DBInstances"]
    endpoint = instance["Endpoint"]
    values = (instance["Engine"], endpoint["Address"], endpoint["Port"], instance["DBName"], name)
    arn = await _rewrite(secret_id, dict(zip(_MEMBERS, values, strict=True)))
    return arn, {"Id": arn}


async def _rewrite(secret_id: str, connection: dict[str, Any]) -> str:
    """Replace the connection in a secret; returns the secret's ARN."""
    secret = await call("secretsmanager", "GetSecretValue", {"SecretId": secret_id})
    try:
        value = json.loads(secret["SecretString"])
        kept = {key: each for key, each in value.items() if key not in _MEMBERS}
    except (ValueError, KeyError, AttributeError) as error:
        raise HandlerFailed("The secret's value is not a JSON object", "InvalidRequest") from error
    request = {"SecretId": secret_id, "SecretString": json.dumps({**kept, **connection})}
    return str((await call("secretsmanager", "PutSecretValue", request))["ARN"])


def register(registry: Registry) -> None:
    registry.register(
        "AWS::SecretsManager::SecretTargetAttachment",
        Handlers(create=create, update=update, delete=delete),
    )
