"""Replication groups, and ElastiCache's store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from alva.region.aws_error import AwsError
from alva.region.engine_records import (
    EngineRecord,
    Json,
    ParameterGroup,
    Record,
    Store,
    SubnetGroup,
    chosen,
    is_true,
    tags_of,
)

# Properties that are only shown: there is one machine and one disk, and no maintenance window or automatic failover.
RECORDED = frozenset({
    "AtRestEncryptionEnabled", "AutoMinorVersionUpgrade", "AutomaticFailoverEnabled", "MultiAZEnabled",
    "PreferredMaintenanceWindow", "SnapshotRetentionLimit", "SnapshotWindow", "KmsKeyId", "NotificationTopicArn",
    "NetworkType", "IpDiscovery", "PreferredCacheClusterAZs", "ClusterMode",
})  # fmt: skip
_DEFAULTS: Json = {
    "AtRestEncryptionEnabled": False,
    "AutoMinorVersionUpgrade": True,
    "PreferredMaintenanceWindow": "sun:05:00-sun:06:00",
    "SnapshotRetentionLimit": 0,
    "SnapshotWindow": "05:00-06:00",
    "NetworkType": "ipv4",
    "IpDiscovery": "ipv4",
}


@dataclass(kw_only=True)
class ReplicationGroup(EngineRecord):
    """A replication group with cluster mode disabled."""

    description: str
    engine: str
    node_type: str
    replicas: int
    has_tls: bool
    tls_mode: str = "required"
    tokens: list[str] = field(default_factory=list)
    """The valid AUTH tokens, the newest last."""
    own_name: str
    """The prefix of renamed commands, which only the region can call."""
    primary_host: str
    reader_host: str
    log_deliveries: list[Json] = field(default_factory=list)

    def __str__(self) -> str:
        return f"replication group {self.name}"

    @property
    def nodes(self) -> list[str]:
        """The ids of its nodes, which are cache clusters: `group-001`."""
        return [f"{self.name}-{number:03d}" for number in range(1, self.replicas + 2)]

    def set(self, properties: Mapping[str, Any]) -> None:
        """Set what an update of the stack can change, without the AUTH token."""
        self.description = properties.get("ReplicationGroupDescription", "")
        self.engine = properties.get("Engine", "redis")
        self.engine_version = str(properties.get("EngineVersion", "7.1"))
        self.node_type = properties["CacheNodeType"]
        self.parameter_group = (
            properties.get("CacheParameterGroupName") or f"default.{self.engine}{self.engine_version[:1]}"
        )
        self.security_groups = list(properties.get("SecurityGroupIds") or ())
        self.log_deliveries = list(properties.get("LogDeliveryConfigurations") or ())
        self.shown = chosen(properties, RECORDED, {})

    def described(self) -> Json:
        """A ReplicationGroup of DescribeReplicationGroups."""
        primary, reader = self._endpoint(self.primary_host), self._endpoint(self.reader_host)
        return {
            **self._common(),
            "ReplicationGroupId": self.name,
            "ARN": self.arn,
            "Description": self.description,
            "Status": self.status,
            "ReplicationGroupCreateTime": self.created_at,
            "MemberClusters": self.nodes,
            "NodeGroups": [
                {
                    "NodeGroupId": "0001",
                    "Status": self.status,
                    "PrimaryEndpoint": primary,
                    "ReaderEndpoint": reader,
                    "NodeGroupMembers": [
                        {
                            "CacheClusterId": node,
                            "CacheNodeId": "0001",
                            "ReadEndpoint": reader if index else primary,
                            "PreferredAvailabilityZone": self._zone_of(index),
                            "CurrentRole": "replica" if index else "primary",
                        }
                        for index, node in enumerate(self.nodes)
                    ],
                }
            ],
            "AutomaticFailover": _enabled(self.shown.get("AutomaticFailoverEnabled")),
            "MultiAZ": _enabled(self.shown.get("MultiAZEnabled")),
            "ClusterEnabled": False,
            "ClusterMode": "disabled",
            "DataTiering": "disabled",
        }

    def described_nodes(self, *, has_endpoints: bool) -> list[Json]:
        """Its nodes, each a CacheCluster of DescribeCacheClusters."""
        return [
            {
                **self._common(),
                "CacheClusterId": node,
                "ARN": self.arn_of_node(node),
                "CacheClusterStatus": self.status,
                "CacheClusterCreateTime": self.created_at,
                "NumCacheNodes": 1,
                "PreferredAvailabilityZone": self._zone_of(index),
                "CacheNodes": [
                    {
                        "CacheNodeId": "0001",
                        "CacheNodeStatus": self.status,
                        "CacheNodeCreateTime": self.created_at,
                        "Endpoint": self._endpoint(self.reader_host if index else self.primary_host),
                        "ParameterGroupStatus": "in-sync",
                        "CustomerAvailabilityZone": self._zone_of(index),
                    }
                ]
                if has_endpoints
                else None,
                "ReplicationGroupId": self.name,
                "ReplicationGroupLogDeliveryEnabled": bool(self.log_deliveries),
                "EngineVersion": self.engine_version,
                "CacheSubnetGroupName": self.subnet_group,
                "CacheParameterGroup": {
                    "CacheParameterGroupName": self.parameter_group,
                    "ParameterApplyStatus": "in-sync",
                },
                "CacheSecurityGroups": [],
                "SecurityGroups": [{"SecurityGroupId": each, "Status": "active"} for each in self.security_groups],
            }
            for index, node in enumerate(self.nodes)
        ]

    def arn_of_node(self, node: str) -> str:
        """The ARN of a cache cluster."""
        return f"{self.arn.partition(':replicationgroup:')[0]}:cluster:{node}"

    def _common(self) -> Json:
        """The members that a replication group and a cache cluster have in common."""
        return {
            **_DEFAULTS,
            **self.shown,
            "CacheNodeType": self.node_type,
            "Engine": self.engine,
            "AuthTokenEnabled": bool(self.tokens),
            "TransitEncryptionEnabled": self.has_tls,
            "TransitEncryptionMode": self.tls_mode if self.has_tls else None,
            "LogDeliveryConfigurations": [{**each, "Status": "active"} for each in self.log_deliveries],
            "PendingModifiedValues": {},
        }

    def _endpoint(self, host: str) -> Json:
        return {"Address": host, "Port": self.port}

    def _zone_of(self, index: int) -> str | None:
        return self.zones[index] if index < len(self.zones) else None


class CacheStore(Store[ReplicationGroup]):
    """ElastiCache's records."""

    service = "elasticache"
    title = sdk_name = "ElastiCache"
    prefix = "Cache"
    families = ("redis7", "valkey7", "valkey8")
    kinds: ClassVar[Mapping[str, tuple[str, type[Record]]]] = {
        "engines": ("replicationgroup", ReplicationGroup),
        "subnet_groups": ("subnetgroup", SubnetGroup),
        "parameter_groups": ("parametergroup", ParameterGroup),
    }

    def no_engine(self, name: str) -> AwsError:
        """ReplicationGroupNotFoundFault."""
        return AwsError("ReplicationGroupNotFoundFault", f"ReplicationGroup {name} not found.", 404)

    def tagged(self, arn: str) -> Record:
        """The record of an ARN; a cache cluster has the tags of its group. Raises AwsError."""
        for group in self.engines.values():
            if arn in map(group.arn_of_node, group.nodes):
                return group
        return super().tagged(arn)

    def from_earlier_version(self, data: Mapping[str, Json]) -> Json:
        """Convert MiniStack's records."""
        groups = [
            _group(record, data["clusters"].get(record["MemberClusters"][0]) or {}, data["tags"])
            for record in data["replication_groups"].values()
        ]
        return {**self.groups_from_earlier_version(data), "engines": groups}


def _group(record: Json, cluster: Json, tags: Json) -> Json:
    """A replication group in the format of alva 0.x, with its first cache cluster."""
    (group,) = record["NodeGroups"]
    return {
        "name": record["ReplicationGroupId"],
        "arn": record["ARN"],
        "tags": tags_of(tags.get(record["ARN"])),
        "status": record["Status"],
        "engine_version": record["EngineVersion"],
        "port": int(record.get("_port") or group["PrimaryEndpoint"]["Port"]),
        "subnet_group": record["CacheSubnetGroupName"],
        "parameter_group": record["CacheParameterGroupName"],
        "security_groups": record.get("_security_groups") or [],
        "addresses": record.get("_addresses") or [],
        "created_at": cluster.get("CacheClusterCreateTime", 0.0),
        "shown": {
            **chosen(record, {*_DEFAULTS, *RECORDED} - {"ClusterMode"}, {}),
            "AutomaticFailoverEnabled": record["AutomaticFailover"] == "enabled",
            "MultiAZEnabled": record["MultiAZ"] == "enabled",
        },
        "description": record["Description"],
        "engine": record["Engine"],
        "node_type": record["CacheNodeType"],
        "replicas": int(record["_replicas_per_node_group"]),
        "has_tls": record["TransitEncryptionEnabled"],
        "tls_mode": record.get("TransitEncryptionMode") or "required",
        "tokens": record["_auth_tokens"],
        "own_name": record.get("_own_name", ""),
        "primary_host": group["PrimaryEndpoint"]["Address"],
        "reader_host": group["ReaderEndpoint"]["Address"],
        "log_deliveries": record.get("LogDeliveryConfigurations") or [],
    }


def _enabled(value: Any) -> str:
    return "enabled" if is_true(value) else "disabled"
