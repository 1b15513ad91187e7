"""AWS::ElastiCache::ReplicationGroup and ParameterGroup: MiniStack's records, with running nodes."""

from __future__ import annotations

import asyncio
from typing import Any

from ministack.services import elasticache
from ministack.services.cloudformation import provisioners

from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, announce
from alva.region.elasticache import parameters
from alva.region.elasticache.caches import Caches
from alva.region.engine import EngineFailed

# Properties with an effect here.
HONOURED = {
    "ReplicationGroupId", "ReplicationGroupDescription", "Engine", "EngineVersion", "CacheNodeType", "NumCacheClusters",
    "NumNodeGroups", "ReplicasPerNodeGroup", "Port", "CacheParameterGroupName", "CacheSubnetGroupName",
    "TransitEncryptionEnabled", "TransitEncryptionMode", "AuthToken",
    "LogDeliveryConfigurations", "Tags",
}  # fmt: skip
# Recorded without an effect: there is one machine and one disk, and no maintenance window or automatic failover.
RECORDED = {
    "AtRestEncryptionEnabled", "AutoMinorVersionUpgrade", "AutomaticFailoverEnabled", "MultiAZEnabled",
    "PreferredMaintenanceWindow", "SnapshotRetentionLimit", "SnapshotWindow", "SecurityGroupIds", "KmsKeyId",
    "NotificationTopicArn", "NetworkType", "IpDiscovery", "PreferredCacheClusterAZs", "ClusterMode",
}  # fmt: skip
DEFAULT_PORT = 6379


def register(caches: Caches) -> None:
    """Register both types for the component."""
    registry = caches.region.resource_types
    group = ReplicationGroup(caches)
    registry.register(
        "AWS::ElastiCache::ReplicationGroup", Handlers(create=group.create, update=group.update, delete=group.delete)
    )
    parameter_group = ParameterGroup(caches)
    registry.register(
        "AWS::ElastiCache::ParameterGroup",
        Handlers(create=parameter_group.create, update=parameter_group.update, delete=parameter_group.delete),
    )


class ReplicationGroup:
    """AWS::ElastiCache::ReplicationGroup, with cluster mode disabled."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    async def create(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        _check(properties)
        name = provisioners._ec_rg_id(logical_id, properties, stack_name)
        if name in elasticache._replication_groups:
            raise HandlerFailed(f"Replication group {name} already exists (Service: ElastiCache)", "AlreadyExists")
        provisioners._ec_rg_create(logical_id, {**properties, "ReplicationGroupId": name}, stack_name)
        record = elasticache._replication_groups[name]
        _name_nodes(record)
        record["_security_groups"] = list(properties.get("SecurityGroupIds") or ())
        announce(name)
        try:
            await self._caches.create(record, int(properties.get("Port") or DEFAULT_PORT))
        except EngineFailed as error:
            record["Status"] = "create-failed"
            raise HandlerFailed(f"Replication group {name} could not be created: {error}", "NotStabilized") from error
        return name, provisioners._ec_rg_attrs(name)

    async def update(self, physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
        _check(new)
        record = elasticache._replication_groups.get(physical_id)
        if record is None:
            raise HandlerFailed(f"Replication group {physical_id} not found", "NotFound")
        if provisioners._ec_rg_replicas(old) != provisioners._ec_rg_replicas(new):
            raise HandlerFailed(
                "the local region does not change the number of replicas of a replication group", "InvalidRequest"
            )
        tokens = list(record["_auth_tokens"])
        provisioners._ec_rg_update(
            physical_id,
            {**old, "ReplicationGroupId": physical_id},
            {**new, "ReplicationGroupId": physical_id},
            stack_name,
        )
        record["_security_groups"] = list(new.get("SecurityGroupIds") or ())
        if old.get("AuthToken") != new.get("AuthToken"):
            record["_auth_tokens"] = _tokens(tokens, new)
        try:
            await self._caches.change(record)
        except EngineFailed as error:
            raise HandlerFailed(f"Replication group {physical_id} could not be modified: {error}") from error
        return physical_id, provisioners._ec_rg_attrs(physical_id)

    async def delete(self, physical_id: str, properties: Properties) -> None:
        record = elasticache._replication_groups.get(physical_id)
        if record is None:
            return
        record["Status"] = "deleting"
        await self._caches.delete(record)
        provisioners._ec_rg_delete(physical_id, properties)


class ParameterGroup:
    """AWS::ElastiCache::ParameterGroup. An unknown parameter is refused; a changed one is applied to the nodes."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    async def create(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        _check_parameters(properties)
        made: Provisioned = provisioners._ec_parameter_group_create(logical_id, properties, stack_name)
        return made

    async def update(self, physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
        _check_parameters(new)
        made: Provisioned = provisioners._ec_parameter_group_update(physical_id, old, new, stack_name)
        for record in self._caches.groups_with(physical_id):
            await self._caches.change(record)
        return made

    async def delete(self, physical_id: str, properties: Properties) -> None:
        await asyncio.sleep(0)
        provisioners._ec_parameter_group_delete(physical_id, properties)


def _name_nodes(record: dict[str, Any]) -> None:
    """Name the group's nodes as AWS does with cluster mode disabled: `group-001`, not MiniStack's `group-0001-001`."""
    renamed = {old: f"{record['ReplicationGroupId']}-{old[-3:]}" for old in record["MemberClusters"]}
    record["MemberClusters"] = list(renamed.values())
    for group in record["NodeGroups"]:
        for member in group["NodeGroupMembers"]:
            member["CacheClusterId"] = renamed[member["CacheClusterId"]]
    for old, new in renamed.items():
        cluster = elasticache._clusters.pop(old)
        tags = elasticache._tags.pop(cluster["CacheClusterArn"], [])
        cluster.update(CacheClusterId=new, CacheClusterArn=elasticache._arn_cluster(new))
        elasticache._clusters[new] = cluster
        elasticache._tags[cluster["CacheClusterArn"]] = tags


def _check(properties: Properties) -> None:
    """Raise HandlerFailed for unsupported properties and values."""
    if unknown := set(properties) - HONOURED - RECORDED:
        raise HandlerFailed(
            f"the local region does not honour {', '.join(sorted(unknown))} of AWS::ElastiCache::ReplicationGroup",
            "InvalidRequest",
        )
    if int(properties.get("NumNodeGroups") or 1) != 1 or properties.get("ClusterMode") not in (None, "disabled"):
        raise HandlerFailed("the local region has replication groups with cluster mode disabled only", "InvalidRequest")
    engine, version = properties.get("Engine", "redis"), str(properties.get("EngineVersion", "7.1"))
    if engine not in ("redis", "valkey") or not version.startswith(("7.", "8.")):
        raise HandlerFailed(f"the local region has no {engine} {version}: it has redis 7 and valkey", "InvalidRequest")
    try:
        parameters.maxmemory(properties.get("CacheNodeType", ""), {})
    except ValueError as error:
        raise HandlerFailed(str(error), "InvalidRequest") from error
    token = properties.get("AuthToken")
    if token is not None and not 16 <= len(token) <= 128:
        raise HandlerFailed(
            "Invalid AuthToken provided: the token must be at least 16 and no more than 128 characters long",
            "InvalidRequest",
        )


def _check_parameters(properties: Properties) -> None:
    values = {str(name): str(value) for name, value in (properties.get("Properties") or {}).items()}
    try:
        parameters.check_names(values)
    except ValueError as error:
        raise HandlerFailed(f"{error} (Service: ElastiCache, Status Code: 400)", "InvalidRequest") from error


def _tokens(before: list[str], new: Properties) -> list[str]:
    """The valid tokens after a change: the new one and the last one (the update strategy ROTATE).

    ElastiCache User Guide, "Authenticating with the AUTH command"; CloudFormation has no other strategy.
    """
    token: Any = new.get("AuthToken")
    return [*before[-1:], token] if token is not None else []
