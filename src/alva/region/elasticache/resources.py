"""AWS::ElastiCache::ReplicationGroup, and the parameters of AWS::ElastiCache::ParameterGroup."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from alva.region.aws_error import AwsError
from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.physical_names import physical_name
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, announce
from alva.region.elasticache import parameters
from alva.region.elasticache.caches import Caches
from alva.region.elasticache.records import RECORDED, ReplicationGroup
from alva.region.engine import EngineFailed
from alva.region.engine_api import CommonApi
from alva.region.engine_groups import GroupTypes, provisioning
from alva.region.engine_records import is_true, tags_of

# Properties with an effect here.
HONOURED = {
    "ReplicationGroupId", "ReplicationGroupDescription", "Engine", "EngineVersion", "CacheNodeType", "NumCacheClusters",
    "NumNodeGroups", "ReplicasPerNodeGroup", "Port", "CacheParameterGroupName", "CacheSubnetGroupName",
    "TransitEncryptionEnabled", "TransitEncryptionMode", "AuthToken", "SecurityGroupIds",
    "LogDeliveryConfigurations", "Tags",
}  # fmt: skip
DEFAULT_PORT = 6379


def register(caches: Caches, common: CommonApi[ReplicationGroup]) -> None:
    """Register the types for the component."""
    registry = caches.region.resource_types
    group = ReplicationGroupType(caches)
    registry.register(
        "AWS::ElastiCache::ReplicationGroup", Handlers(create=group.create, update=group.update, delete=group.delete)
    )
    values = ParameterValues(caches)
    GroupTypes(common, values.check, values.changed).register(registry, "AWS::ElastiCache::")


class ReplicationGroupType:
    """AWS::ElastiCache::ReplicationGroup, with cluster mode disabled."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._store = caches.store

    async def create(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        with provisioning(self._store):
            _check(properties)
            record = self._record(logical_id, properties, stack_name)
        self._store.engines[record.name] = record
        announce(record.name)
        try:
            await self._caches.create(record)
        except EngineFailed as error:
            record.status = "create-failed"
            raise HandlerFailed(f"{record} could not be created: {error}", "NotStabilized") from error
        return record.name, attributes_of(record)

    def _record(self, logical_id: str, properties: Properties, stack_name: str) -> ReplicationGroup:
        """The record of a new group. Raises AwsError."""
        name = properties.get("ReplicationGroupId") or physical_name(
            stack_name, logical_id, lowercase=True, max_length=40
        )
        if name in self._store.engines:
            raise AwsError("ReplicationGroupAlreadyExists", f"Replication group {name} already exists")
        primary_host, reader_host = self._caches.endpoint_names(name)
        record = ReplicationGroup(
            name=name,
            arn=self._store.arn("engines", name),
            tags=tags_of(properties.get("Tags")),
            engine_version="",
            port=int(properties.get("Port") or DEFAULT_PORT),
            subnet_group=self._store.subnet_group(properties.get("CacheSubnetGroupName", "default")).name,
            parameter_group="",
            security_groups=[],
            created_at=time.time(),
            description="",
            engine="",
            node_type="",
            replicas=_replicas(properties),
            has_tls=is_true(properties.get("TransitEncryptionEnabled")),
            tls_mode=properties.get("TransitEncryptionMode", "required"),
            tokens=_tokens([], properties),
            own_name=secrets.token_hex(12),
            primary_host=primary_host,
            reader_host=reader_host,
        )
        self._set(record, properties)
        return record

    def _set(self, record: ReplicationGroup, properties: Properties) -> None:
        """Set what an update can change. Raises AwsError."""
        record.set(properties)
        self._store.parameter_group(record.parameter_group)

    async def update(self, physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
        del stack_name
        with provisioning(self._store):
            _check(new)
            record = self._store.engine(physical_id)
            if _replicas(old) != _replicas(new):
                raise HandlerFailed(
                    "the local region does not change the number of replicas of a replication group", "InvalidRequest"
                )
            if is_true(old.get("TransitEncryptionEnabled")) != is_true(new.get("TransitEncryptionEnabled")):
                raise HandlerFailed(
                    "the local region does not change the encryption in transit of a replication group",
                    "InvalidRequest",
                )
            self._set(record, new)
            record.retag(old.get("Tags") or (), new.get("Tags") or ())
        if old.get("AuthToken") != new.get("AuthToken"):
            record.tokens = _tokens(record.tokens, new)
        try:
            await self._caches.change(record)
        except EngineFailed as error:
            raise HandlerFailed(f"{record} could not be modified: {error}") from error
        return physical_id, attributes_of(record)

    async def delete(self, physical_id: str, properties: Properties) -> None:
        del properties
        record = self._store.engines.get(physical_id)
        if record is not None:
            with provisioning(self._store):
                await self._caches.delete(record)


class ParameterValues:
    """The parameters of cache parameter groups. An unknown one is refused; a changed one is applied to the nodes."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    async def check(self, values: Mapping[str, str]) -> None:
        """Raise AwsError for a parameter that the family does not have."""
        try:
            parameters.check_names(values)
        except ValueError as error:
            raise AwsError("InvalidParameterValue", str(error)) from error

    async def changed(self, group: str, values: Mapping[str, str]) -> None:
        """Apply the parameters of a group to the running nodes."""
        del values
        for record in self._caches.store.users_of(group):
            if record.status == "available":
                await self._caches.change(record)


def attributes_of(record: ReplicationGroup) -> dict[str, Any]:
    """The attributes of Fn::GetAtt."""
    port, hosts = str(record.port), [record.reader_host] * record.replicas
    ports = [port] * record.replicas
    return {
        "PrimaryEndPoint.Address": record.primary_host,
        "PrimaryEndPoint.Port": port,
        "ReaderEndPoint.Address": record.reader_host,
        "ReaderEndPoint.Port": port,
        "ReadEndPoint.Addresses": ",".join(hosts),
        "ReadEndPoint.Ports": ",".join(ports),
        "ReadEndPoint.AddressesList": hosts,
        "ReadEndPoint.PortsList": ports,
    }


def _replicas(properties: Properties) -> int:
    """The number of replicas of the one primary."""
    if properties.get("ReplicasPerNodeGroup") is not None:
        return int(properties["ReplicasPerNodeGroup"])
    return max(int(properties.get("NumCacheClusters") or 1) - 1, 0)


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
    if token is not None and not is_true(properties.get("TransitEncryptionEnabled")):
        raise HandlerFailed("The AUTH token is only supported when encryption-in-transit is enabled", "InvalidRequest")
    if token is not None and not 16 <= len(token) <= 128:
        raise HandlerFailed(
            "Invalid AuthToken provided: the token must be at least 16 and no more than 128 characters long",
            "InvalidRequest",
        )


def _tokens(before: list[str], new: Properties) -> list[str]:
    """The valid tokens after a change: the new one and the last one (the update strategy ROTATE).

    ElastiCache User Guide, "Authenticating with the AUTH command"; CloudFormation has no other strategy.
    """
    token: Any = new.get("AuthToken")
    return [*before[-1:], token] if token is not None else []
