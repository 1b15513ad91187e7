"""The resource types that MiniStack makes: records without a data plane."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from typing import Any

from ministack.services.cloudformation import provisioners

from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.registry import Properties, Provisioned

_NAMESPACES = frozenset({
    "CDK", "CertificateManager", "CloudWatch", "EC2", "ECR", "ElastiCache", "Events", "IAM", "KMS", "Logs", "RDS",
    "Route53", "S3", "SNS", "SQS", "SSM", "SecretsManager", "ServiceDiscovery", "WAFv2",
})  # fmt: skip
# Types of these namespaces that need a data plane, or belong to one.
_WITHHELD = frozenset({
    "AWS::RDS::DBCluster", "AWS::RDS::DBClusterParameterGroup", "AWS::ElastiCache::CacheCluster",
    "AWS::ElastiCache::User", "AWS::ElastiCache::UserGroup", "AWS::EC2::Instance",
})  # fmt: skip


@functools.cache
def handlers() -> dict[str, dict[str, Callable[..., Any]]]:
    """MiniStack's functions for each type: create, update and delete."""
    return {
        name: functions
        for name, functions in provisioners._RESOURCE_HANDLERS.items()
        if name.split("::")[1] in _NAMESPACES and name not in _WITHHELD
    }


def create(type_name: str, logical_id: str, properties: Properties, stack_name: str) -> tuple[Provisioned, str]:
    """Create a resource; returns it and the seed of its generated name."""
    seed = secrets.token_hex(4)
    return _seeded(seed, _functions(type_name)["create"], logical_id, properties, stack_name), seed


def update(
    type_name: str, logical_id: str, physical_id: str, old: Properties, new: Properties, stack_name: str, seed: str
) -> Provisioned:
    """Update a resource in place. `seed` is that of its creation."""
    functions = _functions(type_name)
    if "update" not in functions:
        # Nothing of these types can change in place.
        return _seeded(seed, functions["create"], logical_id, new, stack_name)
    arguments = (logical_id,) if functions.get("update_with_logical_id") else ()
    return _seeded(seed, functions["update"], physical_id, old, new, stack_name, *arguments)


def delete(type_name: str, physical_id: str, properties: Properties) -> None:
    """Delete a resource; one that no longer exists is no error."""
    _functions(type_name)["delete"](physical_id, properties)


def _functions(type_name: str) -> dict[str, Callable[..., Any]]:
    functions = handlers().get(type_name)
    if functions is None:
        raise HandlerFailed(f"the local region does not have {type_name}", "InvalidRequest")
    return functions


def _seeded(seed: str, function: Callable[..., Provisioned], *arguments: Any) -> Provisioned:
    """Call a function of MiniStack. A name that it generates depends on the seed, the stack and the logical id."""
    token = provisioners._NAME_SEED.set(seed)
    try:
        return function(*arguments)
    finally:
        provisioners._NAME_SEED.reset(token)
