"""Runs Valkey nodes for every recorded replication group, behind TLS, and publishes their DNS names."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ministack.services import ec2, elasticache

from alva.region import engine_metrics
from alva.region.elasticache import metrics, parameters
from alva.region.elasticache.node import CacheNode
from alva.region.elasticache.parameters import Node
from alva.region.engine import EngineFailed
from alva.region.engine_log import EngineLog
from alva.region.network import Interface, NetworkFailed

if TYPE_CHECKING:
    from alva.region.region import Region

logger = logging.getLogger("alva.elasticache")

Record = dict[str, Any]
# The plain-text port of a node, behind the TLS port of its endpoint.
PLAIN_PORT_OFFSET = 10_000


class Caches:
    """Runs the nodes of each replication group in MiniStack's records."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self._nodes: dict[str, list[CacheNode]] = {}
        self._folder = region.config.state_folder / "elasticache"
        self._seen: dict[str, tuple[engine_metrics.Usage, metrics.Info]] = {}
        self._metrics = engine_metrics.Publisher(region.background, "caches", self._measure)

    async def start(self) -> None:
        """Start every restored group, in parallel. A group that does not start is shown as `create-failed`."""
        records = [record for record in elasticache._replication_groups.all_values() if record.get("_addresses")]
        for record in records:
            subnets = self._subnets(record)
            record["_addresses"] = [
                self.region.addresses.restored(address, str(subnets[index % len(subnets)]["CidrBlock"]))
                for index, address in enumerate(record["_addresses"])
            ]
        await asyncio.gather(*(self._restore(record) for record in records))
        self._metrics.start()

    async def stop(self) -> None:
        """Stop every node, and keep the data."""
        await self._metrics.stop()
        await asyncio.gather(*(node.stop() for nodes in self._nodes.values() for node in nodes))

    async def create(self, record: Record, port: int) -> None:
        """Start a new group's nodes; returns when they answer. Raises EngineFailed."""
        record["Status"] = "creating"
        count = 1 + int(record["_replicas_per_node_group"])
        blocks = [str(subnet["CidrBlock"]) for subnet in self._subnets(record)]
        record["_addresses"] = [self.region.addresses.allocate(blocks[index % len(blocks)]) for index in range(count)]
        record["_port"] = port
        record["_own_name"] = secrets.token_hex(12)
        self._publish_endpoints(record)
        await self._bring_up(record)

    async def change(self, record: Record) -> None:
        """Apply changed parameters and tokens to the running nodes."""
        record["Status"] = "modifying"
        try:
            for index, node in enumerate(self._nodes_of(record)):
                async with node.lock:
                    await node.change(self._configuration(record, index), self.parameter_values(record))
        finally:
            record["Status"] = "available"

    async def delete(self, record: Record) -> None:
        """Stop the nodes, delete their data, and release addresses and names."""
        for node in self._nodes_of(record):
            async with node.lock:
                await node.delete()
        self._nodes.pop(record["ReplicationGroupId"], None)
        for index, address in enumerate(record.get("_addresses") or []):
            self.region.load_balancers.remove_tls_proxy(self._proxy_name(record, index))
            await self.region.network.detach(address)
            self.region.addresses.release(address)
        for name in self._names(record):
            self.region.names.withdraw(name)

    def parameter_values(self, record: Record) -> Mapping[str, str]:
        """The values of the group's parameter group, over the family's defaults."""
        parameters = elasticache._param_group_params.get(record["CacheParameterGroupName"]) or {}
        return {name: str(entry["Value"]) for name, entry in parameters.items()}

    def groups_with(self, parameter_group: str) -> list[Record]:
        """The running groups that use a parameter group."""
        return [
            record
            for record in elasticache._replication_groups.values()
            if record["CacheParameterGroupName"] == parameter_group and record["Status"] == "available"
        ]

    async def _restore(self, record: Record) -> None:
        try:
            await self._bring_up(record)
        except Exception as error:
            # The other groups still start.
            record["Status"] = "create-failed"
            self.region.background.failed(f"start replication group {record['ReplicationGroupId']}", error)

    async def _bring_up(self, record: Record) -> None:
        await self._attach(record)
        values = self.parameter_values(record)
        for index, node in enumerate(self._nodes_of(record)):
            async with node.lock:
                await node.start(self._configuration(record, index), values)
        primary_name, reader_name = self._names(record)
        addresses = record["_addresses"]
        if record["TransitEncryptionEnabled"]:
            certificate = self.region.certificates.issue(primary_name, reader_name)
            for index, node in enumerate(self._nodes_of(record)):
                address = addresses[index]
                self.region.load_balancers.tls_proxy(
                    self._proxy_name(record, index),
                    address,
                    record["_port"],
                    address,
                    record["_port"] + PLAIN_PORT_OFFSET,
                    certificate,
                    node.namespace,
                )
        self.region.names.publish(primary_name, addresses[:1])
        self.region.names.publish(reader_name, addresses[1:] or addresses[:1])
        record["Status"] = "available"
        self.region.persistence.mark_changed()
        self._metrics.wake()

    async def _measure(self) -> None:
        """Publish the metrics of each running node."""
        for record in list(elasticache._replication_groups.values()):
            if record["Status"] != "available":
                continue
            node_type = record["CacheNodeType"]
            for node in self._nodes_of(record):
                pid = node.pid
                if pid is None:
                    self._seen.pop(node.name, None)
                    continue
                try:
                    info = metrics.read_info(await node.info())
                except (OSError, EngineFailed) as error:
                    logger.warning("cannot read the metrics of node %s: %s", node.name, error)
                    continue
                now = (engine_metrics.usage(engine_metrics.processes_under(pid)), info)
                before = self._seen.get(node.name, now)
                engine_metrics.publish(
                    metrics.NAMESPACE,
                    {"CacheClusterId": node.name},
                    metrics.data(before, now, memory_bytes=parameters.NODE_MAXMEMORY[node_type]),
                )
                self._seen[node.name] = now
                self.region.persistence.mark_changed()

    async def _attach(self, record: Record) -> None:
        """Attach a network interface to every node. Security groups open only its TLS port."""
        subnets = self._subnets(record)
        has_tls = record["TransitEncryptionEnabled"]
        port = record["_port"] + (PLAIN_PORT_OFFSET if has_tls else 0)
        for index, node in enumerate(self._nodes_of(record)):
            try:
                node.namespace = await self.region.network.attach(
                    Interface(
                        address=record["_addresses"][index],
                        subnet_id=subnets[index % len(subnets)]["SubnetId"],
                        groups=lambda: record.get("_security_groups") or (),
                        managed_ports=(port,),
                        hidden_ports=(port,) if has_tls else (),
                    )
                )
            except NetworkFailed as error:
                raise EngineFailed(f"cannot attach a network interface: {error}") from error

    def _configuration(self, record: Record, index: int) -> Node:
        has_tls = record["TransitEncryptionEnabled"]
        port = record["_port"] + (PLAIN_PORT_OFFSET if has_tls else 0)
        addresses = record["_addresses"]
        return Node(
            address=addresses[index],
            port=port,
            node_type=record["CacheNodeType"],
            tokens=tuple(record["_auth_tokens"]),
            primary=(addresses[0], port) if index else None,
            has_replicas=len(addresses) > 1,
            own_name=record["_own_name"],
        )

    def _nodes_of(self, record: Record) -> list[CacheNode]:
        key = record["ReplicationGroupId"]
        if key not in self._nodes:
            self._nodes[key] = [
                CacheNode(
                    cluster_id,
                    self._folder / key / cluster_id,
                    self.region.supervisor,
                    self.region.background,
                    self.region.network,
                    self._log_of(record, cluster_id),
                )
                for cluster_id in record["MemberClusters"]
            ]
        return self._nodes[key]

    def _names(self, record: Record) -> tuple[str, str]:
        """Primary and reader endpoint, in AWS's form for groups with TLS."""
        config = self.region.config
        account_hash = hashlib.sha256(f"cache/{config.account_id}/{config.region}".encode()).hexdigest()[:6]
        continent, direction, number = config.region.split("-")
        zone = f"{continent}{direction[:1]}{number}"
        suffix = f"{record['ReplicationGroupId']}.{account_hash}.{zone}.cache.amazonaws.com"
        return f"master.{suffix}", f"replica.{suffix}"

    def _publish_endpoints(self, record: Record) -> None:
        """Record the endpoints, for the API and Fn::GetAtt."""
        primary_name, reader_name = self._names(record)
        primary = {"Address": primary_name, "Port": record["_port"]}
        reader = {"Address": reader_name, "Port": record["_port"]}
        for group in record["NodeGroups"]:
            group["PrimaryEndpoint"], group["ReaderEndpoint"] = primary, reader
            for index, member in enumerate(group["NodeGroupMembers"]):
                member["ReadEndpoint"] = primary if index == 0 else reader
        for cluster_id in record["MemberClusters"]:
            cluster = elasticache._clusters[cluster_id]
            cluster["_endpoint"] = primary
            for cache_node in cluster["CacheNodes"]:
                cache_node["Endpoint"] = primary

    def _proxy_name(self, record: Record, index: int) -> str:
        return f"elasticache-{record['ReplicationGroupId']}-{index + 1:03d}"

    def _subnets(self, record: Record) -> list[Record]:
        group = elasticache._subnet_groups.get(record["CacheSubnetGroupName"])
        if not group:
            raise EngineFailed(f"CacheSubnetGroupName: {record['CacheSubnetGroupName']} doesn't exist.")
        ids = [each["SubnetIdentifier"] for each in group["Subnets"]]
        subnets: list[Record] = [ec2._subnets[each] for each in ids if each in ec2._subnets]
        if not subnets:
            raise EngineFailed(f"cache subnet group {record['CacheSubnetGroupName']} has no subnet that exists")
        return subnets

    def _log_of(self, record: Record, cluster_id: str) -> Callable[[str], None]:
        """The log of a node. It goes to CloudWatch Logs too, if the group delivers its engine log there."""

        def event(line: str) -> str:
            now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
            return json.dumps({"CacheClusterId": cluster_id, "CacheNodeId": "0001", "Time": now, "Message": line})

        return EngineLog(
            self.region.background,
            self.region.config,
            self.region.config.logs_folder / f"elasticache-{cluster_id}.log",
            stream=f"elasticache/redis/{cluster_id}/0001/engine-log",
            group=lambda: _engine_log_group(record),
            event=event,
        ).write


def _engine_log_group(record: Record) -> str | None:
    for configuration in record.get("LogDeliveryConfigurations") or []:
        if configuration.get("LogType") == "engine-log" and configuration.get("DestinationType") == "cloudwatch-logs":
            details = (configuration.get("DestinationDetails") or {}).get("CloudWatchLogsDetails") or {}
            return details.get("LogGroup")
    return None
