"""Runs a PostgreSQL server for every recorded DB instance."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alva.region import engine_metrics
from alva.region.engine import EngineFailed
from alva.region.engine_component import EngineComponent
from alva.region.engine_log import EngineLog
from alva.region.rds import metrics, parameters
from alva.region.rds.parameters import Endpoint
from alva.region.rds.records import DBInstance, DBSnapshot, RdsStore
from alva.region.rds.server import Login, PostgresServer, known_parameters

if TYPE_CHECKING:
    from alva.region.region import Region


class Databases(EngineComponent[DBInstance]):
    """Runs the server of each DB instance."""

    store: RdsStore
    _failed_status = "failed"

    def __init__(self, region: Region) -> None:
        super().__init__(region, RdsStore(region.config.account_id, region.config.region))
        self._known_parameters: Mapping[str, str] = {}
        self._servers: dict[str, PostgresServer] = {}
        self._usage: dict[str, engine_metrics.Usage] = {}

    async def create(self, record: DBInstance, snapshot_id: str | None) -> None:
        """Create the server of a new record; returns when it accepts connections. Raises EngineFailed."""
        await self._allocate(record, 1)
        login = Login(user=record.master_username, password=record.password, database=record.database)
        async with self._changing(record, "creating") as server:
            if snapshot_id is not None:
                await server.copy_from(self.snapshot_folder(snapshot_id))
            else:
                await server.initialise(login)
            await self._bring_up(record, server)

    async def restart(self, record: DBInstance, status: str = "modifying") -> None:
        """Restart the server with the configuration of its record. Raises EngineFailed."""
        async with self._changing(record, status) as server:
            await server.stop()
            await self._bring_up(record, server)

    async def stop_server(self, record: DBInstance) -> None:
        """Stop one server. As on RDS, its name remains published."""
        async with self._changing(record, "stopping") as server:
            await server.stop()
            record.status = "stopped"

    async def set_password(self, record: DBInstance) -> None:
        """Apply the recorded password; the server restarts. Raises EngineFailed."""
        async with self._changing(record, "modifying") as server:
            await server.stop()
            await server.set_password(record.master_username, record.password)
            await self._bring_up(record, server)

    async def reload(self, record: DBInstance) -> None:
        """Apply the recorded dynamic parameters."""
        server = self._server(record)
        async with server.lock:
            self._configure(record, server)
            server.reload()

    async def snapshot(self, record: DBInstance, snapshot_id: str) -> DBSnapshot:
        """Make a snapshot of the instance."""
        before = record.status
        async with self._changing(record, "backing-up") as server:
            await server.snapshot(self.snapshot_folder(snapshot_id))
            record.status = before
        group = self.store.subnet_groups.get(record.subnet_group)
        made = record.snapshot(
            snapshot_id, self.store.arn("snapshots", snapshot_id), group.vpc_id if group else "", time.time()
        )
        self.store.snapshots[snapshot_id] = made
        return made

    async def delete(self, record: DBInstance) -> None:
        """Stop the server, and delete its data and its record."""
        async with self._changing(record, "deleting") as server:
            await server.delete()
            self._servers.pop(record.resource_id, None)
        await self._release(record, [record.host])
        self.store.engines.pop(record.name, None)

    def snapshot_folder(self, snapshot_id: str) -> Path:
        """The folder of a snapshot's data."""
        return self._folder / "snapshots" / snapshot_id

    def endpoint_name(self, instance_name: str) -> str:
        """`<instance>.<hash>.<region>.rds.amazonaws.com`; the hash belongs to the account and region, as on AWS."""
        config = self.region.config
        account_hash = hashlib.sha256(f"{config.account_id}/{config.region}".encode()).hexdigest()[:12]
        return f"{instance_name}.c{account_hash[1:]}.{config.region}.rds.amazonaws.com"

    async def known_parameters(self) -> Mapping[str, str]:
        """PostgreSQL's parameters, each with its context."""
        if not self._known_parameters:
            self._known_parameters = await known_parameters(self.region.supervisor)
        return self._known_parameters

    async def _resume(self, record: DBInstance) -> None:
        if record.is_stopped:
            record.status = "stopped"
            return
        server = self._server(record)
        if not server.is_initialised:
            raise EngineFailed("its data folder is missing or incomplete")
        async with self._changing(record, "starting"):
            await self._bring_up(record, server)

    async def _stop_servers(self) -> None:
        await asyncio.gather(*(server.stop() for server in self._servers.values()))

    @asynccontextmanager
    async def _changing(self, record: DBInstance, status: str) -> AsyncIterator[PostgresServer]:
        """Lock the server for the caller. The record has `status` meanwhile, and `failed` after an error.

        Raises EngineFailed when the instance was deleted before the lock was free.
        """
        server = self._server(record)
        record.status = status
        async with server.lock:
            if self._servers.get(record.resource_id) is not server:
                raise EngineFailed(f"{record} was deleted")
            record.status = status
            try:
                yield server
            except BaseException:
                record.status = "failed"
                raise

    async def _bring_up(self, record: DBInstance, server: PostgresServer) -> None:
        self._configure(record, server)
        server.namespace = await self._attach(record)
        await server.start()
        self.region.names.publish(record.host, record.addresses)
        record.status = "available"
        record.parameter_status = "in-sync"
        self.region.persistence.mark_changed()
        self._metrics.wake()

    async def _measure(self) -> None:
        """Publish the metrics of each running server."""
        for record in list(self.store.engines.values()):
            key = record.resource_id
            server = self._servers.get(key)
            if server is None or server.pid is None:
                self._usage.pop(key, None)
                continue
            now = await asyncio.to_thread(metrics.measure, server.pid, self._folder / key / "data")
            if server.pid is None:
                continue
            instance_class = record.instance_class
            engine_metrics.publish(
                self.region.metrics,
                metrics.NAMESPACE,
                {"DBInstanceIdentifier": record.name},
                metrics.data(
                    self._usage.get(key, now.usage),
                    now,
                    vcpus=parameters.vcpus(instance_class),
                    memory_bytes=parameters.memory_bytes(instance_class),
                    allocated_gib=record.allocated_gib,
                ),
            )
            self._usage[key] = now.usage
            self.region.persistence.mark_changed()

    def _configure(self, record: DBInstance, server: PostgresServer) -> None:
        server.configure(
            record.instance_class,
            self.parameter_values(record),
            Endpoint(address=record.addresses[0], port=record.port),
            self.region.certificates.issue(record.host),
        )

    def _server(self, record: DBInstance) -> PostgresServer:
        key = record.resource_id
        if key not in self._servers:
            self._servers[key] = PostgresServer(
                record.name,
                self._folder / key,
                self.region.supervisor,
                self.region.background,
                self._log_of(record),
            )
        return self._servers[key]

    def _log_of(self, record: DBInstance) -> Callable[[str], None]:
        """The log of a server. It goes to CloudWatch Logs too, if EnableCloudwatchLogsExports enables it."""
        name = record.name
        return EngineLog(
            self.region.background,
            self.region.config,
            self.region.config.logs_folder / f"rds-{name}.log",
            stream=f"{name}.0",
            group=lambda: f"/aws/rds/instance/{name}/postgresql" if "postgresql" in record.log_exports else None,
        ).write
