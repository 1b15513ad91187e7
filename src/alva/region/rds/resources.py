"""AWS::RDS::DBInstance, and the parameters of AWS::RDS::DBParameterGroup."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping

from alva.region.aws_error import AwsError
from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.physical_names import physical_name
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, announce
from alva.region.engine import EngineFailed
from alva.region.engine_api import CommonApi
from alva.region.engine_groups import GroupTypes, provisioning
from alva.region.engine_records import tags_of
from alva.region.rds import parameters
from alva.region.rds.databases import Databases
from alva.region.rds.records import HOSTED_ZONE_ID, RECORDED, DBInstance

# Properties with an effect here.
HONOURED = {
    "DBInstanceIdentifier", "Engine", "EngineVersion", "DBInstanceClass", "DBName", "Port", "MasterUsername",
    "MasterUserPassword", "DBSubnetGroupName", "DBParameterGroupName", "AvailabilityZone", "DeletionProtection",
    "EnableCloudwatchLogsExports", "DBSnapshotIdentifier", "Tags", "VPCSecurityGroups",
}  # fmt: skip
INSTALLED_VERSION = "16.14"
DEFAULT_PORT = 5432


def register(databases: Databases, common: CommonApi[DBInstance]) -> None:
    """Register the types for the component."""
    registry = databases.region.resource_types
    instance = DBInstanceType(databases)
    registry.register(
        "AWS::RDS::DBInstance",
        Handlers(create=instance.create, update=instance.update, delete=instance.delete, snapshot=instance.snapshot),
    )
    values = ParameterValues(databases)
    GroupTypes(common, values.check, values.changed).register(registry, "AWS::RDS::DB")


class DBInstanceType:
    """AWS::RDS::DBInstance."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._store = databases.store

    async def create(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        with provisioning(self._store):
            record, snapshot_id = self._record(logical_id, _checked(properties), stack_name)
        self._store.engines[record.name] = record
        announce(record.name)
        try:
            await self._databases.create(record, snapshot_id)
            if snapshot_id and record.password:
                await self._databases.set_password(record)
        except EngineFailed as error:
            record.status = "failed"
            raise HandlerFailed(f"{record} could not be created: {error}", "NotStabilized") from error
        return record.name, attributes_of(record)

    def _record(self, logical_id: str, properties: Properties, stack_name: str) -> tuple[DBInstance, str | None]:
        """The record of a new instance, and the snapshot to restore. Raises AwsError."""
        name = properties.get("DBInstanceIdentifier") or physical_name(
            stack_name, logical_id, lowercase=True, max_length=63
        )
        if name in self._store.engines:
            raise AwsError("DBInstanceAlreadyExists", f"DB instance already exists: {name}")
        snapshot_id = properties.get("DBSnapshotIdentifier")
        snapshot = self._store.snapshot(snapshot_id) if snapshot_id else None
        record = DBInstance(
            name=name,
            arn=self._store.arn("engines", name),
            tags=tags_of(properties.get("Tags")),
            engine_version="",
            port=0,
            subnet_group=self._store.subnet_group(properties.get("DBSubnetGroupName", "default")).name,
            parameter_group="",
            security_groups=[],
            zones=[properties["AvailabilityZone"]] if properties.get("AvailabilityZone") else [],
            created_at=time.time(),
            resource_id=f"db-{secrets.token_hex(13).upper()}",
            host=self._databases.endpoint_name(name),
            instance_class="",
            # PostgreSQL without DBName: "no database is created" (API reference); the database `postgres` exists.
            database=snapshot.database if snapshot else properties.get("DBName") or "postgres",
            master_username=snapshot.master_username if snapshot else properties.get("MasterUsername", ""),
            password="",
        )
        self._set(record, properties)
        return record, snapshot_id

    def _set(self, record: DBInstance, properties: Properties) -> None:
        """Set what an update can change. Raises AwsError."""
        self._store.parameter_group(properties["DBParameterGroupName"])
        record.set(properties)

    async def update(self, physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
        del stack_name
        changed = {key for key in {*old, *new} if old.get(key) != new.get(key)}
        with provisioning(self._store):
            new = _checked(new)
            record = self._store.engine(physical_id)
            if record.is_stopped:
                raise AwsError("InvalidDBInstanceState", f"Database instance {physical_id} is not in available state.")
            self._set(record, new)
            record.retag(old.get("Tags") or (), new.get("Tags") or ())
        try:
            if "MasterUserPassword" in changed and new.get("MasterUserPassword"):
                await self._databases.set_password(record)
            elif changed & {"DBInstanceClass", "Port"}:
                await self._databases.restart(record)
            elif "DBParameterGroupName" in changed:
                # Static parameters of a new group apply after a reboot (RDS User Guide, "Parameter groups").
                await self._databases.reload(record)
                record.parameter_status = "pending-reboot"
        except EngineFailed as error:
            raise HandlerFailed(f"{record} could not be modified: {error}", "NotStabilized") from error
        return physical_id, attributes_of(record)

    async def delete(self, physical_id: str, properties: Properties) -> None:
        del properties
        record = self._store.engines.get(physical_id)
        if record is None:
            return
        with provisioning(self._store):
            if record.is_protected:
                raise AwsError(
                    "InvalidParameterCombination",
                    "Cannot delete protected DB Instance, please disable deletion protection and try again.",
                )
        await self._databases.delete(record)

    async def snapshot(self, physical_id: str, properties: Properties) -> None:
        del properties
        record = self._store.engines.get(physical_id)
        if record is not None and record.status != "failed":
            await self._databases.snapshot(record, self._free_snapshot_id(physical_id))

    def _free_snapshot_id(self, instance_name: str) -> str:
        """A generated name for the snapshot of a deletion policy, like AWS's."""
        number, candidate = 1, f"{instance_name}-final-snapshot"
        while candidate in self._store.snapshots:
            number += 1
            candidate = f"{instance_name}-final-snapshot-{number}"
        return candidate


class ParameterValues:
    """The parameters of DB parameter groups. An unknown one is refused; a changed one is applied to the servers."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def check(self, values: Mapping[str, str]) -> None:
        """Raise AwsError for a parameter that PostgreSQL does not have or RDS sets itself."""
        try:
            parameters.check_names(values, await self._databases.known_parameters())
        except parameters.UnknownParameter as error:
            raise AwsError("InvalidParameterValue", str(error)) from error

    async def changed(self, group: str, values: Mapping[str, str]) -> None:
        """Apply changed parameters of a group to the running servers."""
        known = await self._databases.known_parameters()
        for record in self._databases.store.users_of(group):
            if record.status == "available":
                await self._databases.reload(record)
                if parameters.needs_restart(values, known):
                    record.parameter_status = "pending-reboot"


def attributes_of(record: DBInstance) -> dict[str, str]:
    """The attributes of Fn::GetAtt."""
    return {
        "Endpoint.Address": record.host,
        "Endpoint.Port": str(record.port),
        "Endpoint.HostedZoneId": HOSTED_ZONE_ID,
        "DbiResourceId": record.resource_id,
        "DBInstanceArn": record.arn,
    }


def _checked(properties: Properties) -> Properties:
    """The properties with defaults. Raises HandlerFailed for unsupported properties and values."""
    if unknown := set(properties) - HONOURED - RECORDED:
        raise HandlerFailed(
            f"the local region does not honour {', '.join(sorted(unknown))} of AWS::RDS::DBInstance", "InvalidRequest"
        )
    engine, version = properties.get("Engine", ""), str(properties.get("EngineVersion") or "16")
    if (engine != "postgres" and "DBSnapshotIdentifier" not in properties) or not re.fullmatch(r"16(\.\d+)?", version):
        raise HandlerFailed(
            f"Cannot find version {version} for {engine or 'no engine'}: the local region has postgres 16",
            "InvalidRequest",
        )
    try:
        parameters.memory_bytes(properties.get("DBInstanceClass", ""))
    except ValueError as error:
        raise HandlerFailed(str(error), "InvalidRequest") from error
    return {
        **properties,
        # "16" stands for the installed minor version; DescribeDBInstances shows it too.
        "EngineVersion": INSTALLED_VERSION if version == "16" else version,
        "Port": properties.get("Port") or DEFAULT_PORT,
        "DBParameterGroupName": properties.get("DBParameterGroupName") or "default.postgres16",
    }
