"""Runs the Valkey nodes of every replication group, behind TLS, and publishes their DNS names."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from alva.region import engine_metrics
from alva.region.elasticache import metrics, parameters
from alva.region.elasticache.node import CacheNode
from alva.region.elasticache.parameters import Node
from alva.region.elasticache.records import CacheStore, ReplicationGroup
from alva.region.engine import EngineFailed
from alva.region.engine_component import EngineComponent
from alva.region.engine_log import EngineLog

if TYPE_CHECKING:
    from alva.region.region import Region

logger = logging.getLogger("alva.elasticache")

# The plain-text port of a node, behind the TLS port of its endpoint.
PLAIN_PORT_OFFSET = 10_000


class Caches(EngineComponent[ReplicationGroup]):
    """Runs the nodes of each replication group."""

    store: CacheStore
    _failed_status = "create-failed"

    def __init__(self, region: Region) -> None:
        super().__init__(region, CacheStore(region.config.account_id, region.config.region))
        self._nodes: dict[str, list[CacheNode]] = {}
        self._seen: dict[str, tuple[engine_metrics.Usage, metrics.Info]] = {}

    async def create(self, record: ReplicationGroup) -> None:
        """Start a new group's nodes; returns when they answer. Raises EngineFailed."""
        await self._allocate(record, len(record.nodes))
        await self._resume(record)

    async def change(self, record: ReplicationGroup) -> None:
        """Apply changed parameters and tokens to the running nodes."""
        record.status = "modifying"
        try:
            for index, node in enumerate(self._nodes_of(record)):
                async with node.lock:
                    await node.change(self._configuration(record, index), self.parameter_values(record))
        finally:
            record.status = "available"

    async def delete(self, record: ReplicationGroup) -> None:
        """Stop the nodes, and delete their data and the record."""
        record.status = "deleting"
        for node in self._nodes_of(record):
            async with node.lock:
                await node.delete()
        self._nodes.pop(record.name, None)
        for index in range(len(record.addresses)):
            self.region.load_balancers.remove_tls_proxy(self._proxy_name(record, index))
        await self._release(record, [record.primary_host, record.reader_host])
        self.store.engines.pop(record.name, None)

    def endpoint_names(self, group_name: str) -> tuple[str, str]:
        """The names of the primary and the reader endpoint, in AWS's form for groups with TLS."""
        config = self.region.config
        account_hash = hashlib.sha256(f"cache/{config.account_id}/{config.region}".encode()).hexdigest()[:6]
        continent, direction, number = config.region.split("-")
        suffix = f"{group_name}.{account_hash}.{continent}{direction[:1]}{number}.cache.amazonaws.com"
        return f"master.{suffix}", f"replica.{suffix}"

    async def _stop_servers(self) -> None:
        await asyncio.gather(*(node.stop() for nodes in self._nodes.values() for node in nodes))

    async def _resume(self, record: ReplicationGroup) -> None:
        # Security groups open only the TLS port.
        port = (_plain_port(record),)
        for index, node in enumerate(self._nodes_of(record)):
            node.namespace = await self._attach(record, index, port, port if record.has_tls else ())
        values = self.parameter_values(record)
        for index, node in enumerate(self._nodes_of(record)):
            async with node.lock:
                await node.start(self._configuration(record, index), values)
        addresses = record.addresses
        if record.has_tls:
            certificate = self.region.certificates.issue(record.primary_host, record.reader_host)
            for index, node in enumerate(self._nodes_of(record)):
                address = addresses[index]
                self.region.load_balancers.tls_proxy(
                    self._proxy_name(record, index),
                    address,
                    record.port,
                    address,
                    record.port + PLAIN_PORT_OFFSET,
                    certificate,
                    node.namespace,
                )
        self.region.names.publish(record.primary_host, addresses[:1])
        self.region.names.publish(record.reader_host, addresses[1:] or addresses[:1])
        record.status = "available"
        self.region.persistence.mark_changed()
        self._metrics.wake()

    async def _measure(self) -> None:
        """Publish the metrics of each running node."""
        for record in list(self.store.engines.values()):
            if record.status != "available":
                continue
            node_type = record.node_type
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
                    self.region.metrics,
                    metrics.NAMESPACE,
                    {"CacheClusterId": node.name},
                    metrics.data(before, now, memory_bytes=parameters.NODE_MAXMEMORY[node_type]),
                )
                self._seen[node.name] = now
                self.region.persistence.mark_changed()

    def _configuration(self, record: ReplicationGroup, index: int) -> Node:
        port, addresses = _plain_port(record), record.addresses
        return Node(
            address=addresses[index],
            port=port,
            node_type=record.node_type,
            tokens=tuple(record.tokens),
            primary=(addresses[0], port) if index else None,
            has_replicas=len(addresses) > 1,
            own_name=record.own_name,
        )

    def _nodes_of(self, record: ReplicationGroup) -> list[CacheNode]:
        key = record.name
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
                for cluster_id in record.nodes
            ]
        return self._nodes[key]

    def _proxy_name(self, record: ReplicationGroup, index: int) -> str:
        return f"elasticache-{record.name}-{index + 1:03d}"

    def _log_of(self, record: ReplicationGroup, cluster_id: str) -> Callable[[str], None]:
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


def _plain_port(record: ReplicationGroup) -> int:
    """The port of the nodes, which is behind the endpoint's port if that has TLS."""
    return record.port + (PLAIN_PORT_OFFSET if record.has_tls else 0)


def _engine_log_group(record: ReplicationGroup) -> str | None:
    for configuration in record.log_deliveries:
        if configuration.get("LogType") == "engine-log" and configuration.get("DestinationType") == "cloudwatch-logs":
            details = (configuration.get("DestinationDetails") or {}).get("CloudWatchLogsDetails") or {}
            return details.get("LogGroup")
    return None
