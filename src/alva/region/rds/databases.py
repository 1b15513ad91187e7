"""Runs a PostgreSQL server for every recorded DB instance."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ministack.services import ec2, rds

from alva.region import engine_metrics
from alva.region.engine import EngineFailed
from alva.region.engine_log import EngineLog
from alva.region.network import Interface, NetworkFailed
from alva.region.rds import metrics, parameters
from alva.region.rds.parameters import Endpoint
from alva.region.rds.server import Login, PostgresServer, known_parameters

if TYPE_CHECKING:
    from alva.region.region import Region

logger = logging.getLogger("alva.rds")

Record = dict[str, Any]


class Databases:
    """Runs the server of each DB instance in MiniStack's records."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self._known_parameters: Mapping[str, str] = {}
        self._servers: dict[str, PostgresServer] = {}
        self._folder = region.config.state_folder / "rds"
        self._usage: dict[str, engine_metrics.Usage] = {}
        self._metrics = engine_metrics.Publisher(region.background, "databases", self._measure)

    async def start(self) -> None:
        """Start every restored instance, in parallel. An instance that does not start is shown as `failed`."""
        records = [record for record in rds._instances.all_values() if record.get("_address")]
        for record in records:
            block = str(self._subnet(record)["CidrBlock"])
            record["_address"] = self.region.addresses.restored(record["_address"], block)
        await asyncio.gather(*(self._restore(record) for record in records))
        self._metrics.start()

    async def stop(self) -> None:
        """Stop every server, and keep the data."""
        await self._metrics.stop()
        await asyncio.gather(*(server.stop() for server in self._servers.values()))

    async def create(self, record: Record, snapshot_id: str | None) -> None:
        """Create the server of a new record; returns when it accepts connections. Raises EngineFailed."""
        name = record["DBInstanceIdentifier"]
        # The endpoint is published last, once the server accepts connections.
        record["_address"] = self.region.addresses.allocate(str(self._subnet(record)["CidrBlock"]))
        record["Endpoint"]["Address"] = self.endpoint_name(name)
        login = Login(user=record["MasterUsername"], password=record["_MasterUserPassword"], database=record["DBName"])
        async with self._changing(record, "creating") as server:
            if snapshot_id is not None:
                await server.copy_from(self.snapshot_folder(snapshot_id))
            else:
                await server.initialise(login)
            await self._bring_up(record, server)

    async def restart(self, record: Record, status: str = "modifying") -> None:
        """Restart the server with the configuration of its record. Raises EngineFailed."""
        async with self._changing(record, status) as server:
            await server.stop()
            await self._bring_up(record, server)

    async def stop_server(self, record: Record) -> None:
        """Stop one server. As on RDS, its name remains published."""
        async with self._changing(record, "stopping") as server:
            await server.stop()
            record["DBInstanceStatus"] = "stopped"

    async def set_password(self, record: Record) -> None:
        """Apply the recorded password; the server restarts. Raises EngineFailed."""
        async with self._changing(record, "modifying") as server:
            await server.stop()
            await server.set_password(record["MasterUsername"], record["_MasterUserPassword"])
            await self._bring_up(record, server)

    async def reload(self, record: Record) -> None:
        """Apply the recorded dynamic parameters."""
        server = self._server(record)
        async with server.lock:
            self._configure(record, server)
            server.reload()

    async def snapshot(self, record: Record, snapshot_id: str) -> None:
        """Copy the instance's data to the snapshot's folder."""
        before = record["DBInstanceStatus"]
        async with self._changing(record, "backing-up") as server:
            await server.snapshot(self.snapshot_folder(snapshot_id))
            record["DBInstanceStatus"] = before

    async def delete(self, record: Record) -> None:
        """Stop the server, delete its data, and release its address and name."""
        name = record["DBInstanceIdentifier"]
        async with self._changing(record, "deleting") as server:
            await server.delete()
            self._servers.pop(record["DbiResourceId"], None)
        self.region.names.withdraw(self.endpoint_name(name))
        if address := record.get("_address"):
            await self.region.network.detach(address)
            self.region.addresses.release(address)

    def snapshot_folder(self, snapshot_id: str) -> Path:
        """The folder of a snapshot's data."""
        return self._folder / "snapshots" / snapshot_id

    def endpoint_name(self, instance_name: str) -> str:
        """`<instance>.<hash>.<region>.rds.amazonaws.com`; the hash belongs to the account and region, as on AWS."""
        config = self.region.config
        account_hash = hashlib.sha256(f"{config.account_id}/{config.region}".encode()).hexdigest()[:12]
        return f"{instance_name}.c{account_hash[1:]}.{config.region}.rds.amazonaws.com"

    def parameter_values(self, record: Record) -> Mapping[str, str]:
        """The values of the instance's parameter group."""
        (membership, *_) = record["DBParameterGroups"]
        group = rds._param_groups.get(membership["DBParameterGroupName"]) or {}
        return {name: str(entry["ParameterValue"]) for name, entry in (group.get("Parameters") or {}).items()}

    async def known_parameters(self) -> Mapping[str, str]:
        """PostgreSQL's parameters, each with its context."""
        if not self._known_parameters:
            self._known_parameters = await known_parameters(self.region.supervisor)
        return self._known_parameters

    async def _restore(self, record: Record) -> None:
        if record.get("_stopped"):
            record["DBInstanceStatus"] = "stopped"
            return
        server = self._server(record)
        try:
            if not server.is_initialised:
                raise EngineFailed("its data folder is missing or incomplete")
            async with self._changing(record, "starting"):
                await self._bring_up(record, server)
        except Exception as error:
            # The other instances still start.
            record["DBInstanceStatus"] = "failed"
            self.region.background.failed(f"start DB instance {record['DBInstanceIdentifier']}", error)

    @asynccontextmanager
    async def _changing(self, record: Record, status: str) -> AsyncIterator[PostgresServer]:
        """Lock the server for the caller. The record has `status` meanwhile, and `failed` after an error.

        Raises EngineFailed when the instance was deleted before the lock was free.
        """
        server = self._server(record)
        record["DBInstanceStatus"] = status
        async with server.lock:
            if self._servers.get(record["DbiResourceId"]) is not server:
                raise EngineFailed(f"DB instance {record['DBInstanceIdentifier']} was deleted")
            record["DBInstanceStatus"] = status
            try:
                yield server
            except BaseException:
                record["DBInstanceStatus"] = "failed"
                raise

    async def _bring_up(self, record: Record, server: PostgresServer) -> None:
        self._configure(record, server)
        interface = Interface(
            address=record["_address"],
            subnet_id=self._subnet(record)["SubnetId"],
            groups=lambda: [each["VpcSecurityGroupId"] for each in record.get("VpcSecurityGroups") or ()],
        )
        try:
            server.namespace = await self.region.network.attach(interface)
        except NetworkFailed as error:
            raise EngineFailed(f"cannot attach a network interface: {error}") from error
        await server.start()
        self.region.names.publish(record["Endpoint"]["Address"], [record["_address"]])
        record["DBInstanceStatus"] = "available"
        for membership in record["DBParameterGroups"]:
            membership["ParameterApplyStatus"] = "in-sync"
        self.region.persistence.mark_changed()
        self._metrics.wake()

    async def _measure(self) -> None:
        """Publish the metrics of each running server."""
        for record in list(rds._instances.values()):
            key = record["DbiResourceId"]
            server = self._servers.get(key)
            if server is None or server.pid is None:
                self._usage.pop(key, None)
                continue
            now = await asyncio.to_thread(metrics.measure, server.pid, self._folder / key / "data")
            if server.pid is None:
                continue
            instance_class = record["DBInstanceClass"]
            engine_metrics.publish(
                metrics.NAMESPACE,
                {"DBInstanceIdentifier": record["DBInstanceIdentifier"]},
                metrics.data(
                    self._usage.get(key, now.usage),
                    now,
                    vcpus=parameters.vcpus(instance_class),
                    memory_bytes=parameters.memory_bytes(instance_class),
                    allocated_gib=int(record.get("AllocatedStorage") or 20),
                ),
            )
            self._usage[key] = now.usage
            self.region.persistence.mark_changed()

    def _configure(self, record: Record, server: PostgresServer) -> None:
        server.configure(
            record["DBInstanceClass"],
            self.parameter_values(record),
            Endpoint(address=record["_address"], port=int(record["Endpoint"]["Port"])),
            self.region.certificates.issue(record["Endpoint"]["Address"]),
        )

    def _server(self, record: Record) -> PostgresServer:
        key = record["DbiResourceId"]
        if key not in self._servers:
            self._servers[key] = PostgresServer(
                record["DBInstanceIdentifier"],
                self._folder / key,
                self.region.supervisor,
                self.region.background,
                self._log_of(record),
            )
        return self._servers[key]

    def _log_of(self, record: Record) -> Callable[[str], None]:
        """The log of a server. It goes to CloudWatch Logs too, if EnableCloudwatchLogsExports enables it."""
        name = record["DBInstanceIdentifier"]
        return EngineLog(
            self.region.background,
            self.region.config,
            self.region.config.logs_folder / f"rds-{name}.log",
            stream=f"{name}.0",
            group=lambda: (
                f"/aws/rds/instance/{name}/postgresql"
                if "postgresql" in (record.get("EnabledCloudwatchLogsExports") or [])
                else None
            ),
        ).write

    def _subnet(self, record: Record) -> Record:
        """A subnet of the subnet group, in the instance's zone if possible."""
        group = rds._subnet_groups.get(record["DBSubnetGroup"]["DBSubnetGroupName"])
        if not group:
            raise EngineFailed(f"DBSubnetGroup doesn't exist: {record['DBSubnetGroup']['DBSubnetGroupName']}")
        subnets = [
            ec2._subnets[each["SubnetIdentifier"]]
            for each in group["Subnets"]
            if each["SubnetIdentifier"] in ec2._subnets
        ]
        if not subnets:
            raise EngineFailed(f"DB subnet group {group['DBSubnetGroupName']} has no subnet that exists")
        zone = record.get("AvailabilityZone")
        chosen: Record = next((subnet for subnet in subnets if subnet["AvailabilityZone"] == zone), subnets[0])
        return chosen
