"""AWS::RDS::DBInstance and AWS::RDS::DBParameterGroup: MiniStack's records, with a running server."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from ministack.services import rds
from ministack.services.cloudformation import provisioners

from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, announce
from alva.region.engine import EngineFailed
from alva.region.rds import parameters
from alva.region.rds.databases import Databases

# Properties with an effect here.
HONOURED = {
    "DBInstanceIdentifier", "Engine", "EngineVersion", "DBInstanceClass", "DBName", "Port", "MasterUsername",
    "MasterUserPassword", "DBSubnetGroupName", "DBParameterGroupName", "AvailabilityZone", "DeletionProtection",
    "EnableCloudwatchLogsExports", "DBSnapshotIdentifier", "Tags",
}  # fmt: skip
# Recorded without an effect: there is one disk and one machine, and no maintenance window.
RECORDED = {
    "AllocatedStorage", "MaxAllocatedStorage", "StorageType", "StorageThroughput", "Iops", "StorageEncrypted",
    "KmsKeyId", "VPCSecurityGroups", "PubliclyAccessible", "MultiAZ", "BackupRetentionPeriod", "PreferredBackupWindow",
    "PreferredMaintenanceWindow", "AutoMinorVersionUpgrade", "AllowMajorVersionUpgrade", "CACertificateIdentifier",
    "CopyTagsToSnapshot", "DeleteAutomatedBackups", "EnablePerformanceInsights", "PerformanceInsightsRetentionPeriod",
    "PerformanceInsightsKMSKeyId", "MonitoringInterval", "MonitoringRoleArn", "NetworkType", "LicenseModel",
}  # fmt: skip
# PostgreSQL's default port and the version that is installed.
INSTALLED_VERSION = "16.14"


def register(databases: Databases) -> None:
    """Register both types for the component."""
    registry = databases.region.resource_types
    instance = DBInstance(databases)
    registry.register(
        "AWS::RDS::DBInstance",
        Handlers(create=instance.create, update=instance.update, delete=instance.delete, snapshot=instance.snapshot),
    )
    group = DBParameterGroup(databases)
    registry.register(
        "AWS::RDS::DBParameterGroup", Handlers(create=group.create, update=group.update, delete=group.delete)
    )


class DBInstance:
    """AWS::RDS::DBInstance."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def create(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        properties = _checked(properties)
        name = properties.get("DBInstanceIdentifier") or provisioners._physical_name(
            stack_name, logical_id, lowercase=True, max_len=63
        )
        if name in rds._instances:
            raise HandlerFailed(f"DB instance already exists: {name} (Service: Rds, Status Code: 400)", "AlreadyExists")
        snapshot_id = properties.get("DBSnapshotIdentifier")
        if snapshot_id:
            properties = _with_snapshot(properties, snapshot_id)
        provisioners._rds_db_instance_create(logical_id, {**properties, "DBInstanceIdentifier": name}, stack_name)
        record = rds._instances[name]
        record["EnabledCloudwatchLogsExports"] = list(properties.get("EnableCloudwatchLogsExports") or [])
        if not properties.get("DBName"):
            # PostgreSQL without DBName: "no database is created" (API reference); the database `postgres` exists.
            record["DBName"] = record["DBName"] if snapshot_id else "postgres"
        announce(name)
        try:
            await self._databases.create(record, snapshot_id)
            if snapshot_id and properties.get("MasterUserPassword"):
                await self._databases.set_password(record)
        except EngineFailed as error:
            record["DBInstanceStatus"] = "failed"
            raise HandlerFailed(f"DB instance {name} could not be created: {error}", "NotStabilized") from error
        return name, _attributes(record)

    async def update(self, physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
        new = _checked(new)
        record = rds._instances.get(physical_id)
        if record is None:
            raise HandlerFailed(f"DBInstance {physical_id} not found.", "NotFound")
        if record.get("_stopped"):
            raise HandlerFailed(
                f"Database instance {physical_id} is not in available state. (Service: Rds, Status Code: 400)",
                "InvalidRequest",
            )
        provisioners._rds_db_instance_update(
            physical_id, {**_completed(old), "DBInstanceIdentifier": physical_id},
            {**new, "DBInstanceIdentifier": physical_id}, stack_name,
        )  # fmt: skip
        record["EnabledCloudwatchLogsExports"] = list(new.get("EnableCloudwatchLogsExports") or [])
        changed = {key for key in {*old, *new} if old.get(key) != new.get(key)}
        try:
            if "MasterUserPassword" in changed and new.get("MasterUserPassword"):
                await self._databases.set_password(record)
            elif changed & {"DBInstanceClass", "Port"}:
                await self._databases.restart(record)
            elif "DBParameterGroupName" in changed:
                # Static parameters of a new group apply after a reboot (RDS User Guide, "Parameter groups").
                await self._databases.reload(record)
                record["DBParameterGroups"][0]["ParameterApplyStatus"] = "pending-reboot"
        except EngineFailed as error:
            raise HandlerFailed(f"DB instance {physical_id} could not be modified: {error}", "NotStabilized") from error
        return physical_id, _attributes(record)

    async def delete(self, physical_id: str, properties: Properties) -> None:
        record = rds._instances.get(physical_id)
        if record is None:
            return
        if record.get("DeletionProtection"):
            raise HandlerFailed(
                "Cannot delete protected DB Instance, please disable deletion protection and try again. "
                "(Service: Rds, Status Code: 400)", "InvalidRequest",
            )  # fmt: skip
        record["DBInstanceStatus"] = "deleting"
        await self._databases.delete(record)
        provisioners._rds_db_instance_delete(physical_id, properties)

    async def snapshot(self, physical_id: str, properties: Properties) -> None:  # noqa: ARG002
        record = rds._instances.get(physical_id)
        if record is None or record["DBInstanceStatus"] == "failed":
            return
        snapshot_id = _free_snapshot_id(physical_id)
        await self._databases.snapshot(record, snapshot_id)
        rds._create_snapshot_internal(snapshot_id, record)


class DBParameterGroup:
    """AWS::RDS::DBParameterGroup. An unknown parameter is refused; a changed one is applied to the servers."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def create(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        await self._check(properties)
        made: Provisioned = provisioners._rds_param_group_create(logical_id, properties, stack_name)
        return made

    async def update(self, physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
        known = await self._check(new)
        made: Provisioned = provisioners._rds_param_group_update(physical_id, old, new, stack_name)
        before, after = provisioners._rds_parameter_values(old), provisioners._rds_parameter_values(new)
        changed = {name: after.get(name, "") for name in {*before, *after} if before.get(name) != after.get(name)}
        for record in list(rds._instances.values()):
            (membership, *_) = record["DBParameterGroups"]
            if membership["DBParameterGroupName"] == physical_id and record["DBInstanceStatus"] == "available":
                await self._databases.reload(record)
                if parameters.needs_restart(changed, known):
                    membership["ParameterApplyStatus"] = "pending-reboot"
        return made

    async def delete(self, physical_id: str, properties: Properties) -> None:
        await asyncio.sleep(0)
        provisioners._rds_param_group_delete(physical_id, properties)

    async def _check(self, properties: Properties) -> Any:
        if properties.get("Family") != "postgres16":
            raise HandlerFailed(
                f"ParameterGroupFamily {properties.get('Family')} is not a valid parameter group family"
                " in the local region, which has postgres16",
                "InvalidRequest",
            )
        known = await self._databases.known_parameters()
        try:
            parameters.check_names(provisioners._rds_parameter_values(properties), known)
        except parameters.UnknownParameter as error:
            raise HandlerFailed(f"{error} (Service: Rds, Status Code: 400)", "InvalidRequest") from error
        return known


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
    return _completed(properties)


def _completed(properties: Properties) -> Properties:
    """The properties with the installed minor version, which "16" stands for; DescribeDBInstances shows it too."""
    version = str(properties.get("EngineVersion") or "16")
    return {**properties, "Engine": "postgres", "EngineVersion": INSTALLED_VERSION if version == "16" else version}


def _with_snapshot(properties: Properties, snapshot_id: str) -> Properties:
    snapshot = rds._snapshots.get(snapshot_id)
    if snapshot is None:
        raise HandlerFailed(f"DBSnapshot not found: {snapshot_id}", "NotFound")
    return {**properties, "MasterUsername": snapshot["MasterUsername"], "DBName": snapshot["DBName"]}


def _free_snapshot_id(instance_name: str) -> str:
    """A generated name for the snapshot of a deletion policy, like AWS's."""
    number, candidate = 1, f"{instance_name}-final-snapshot"
    while candidate in rds._snapshots:
        number += 1
        candidate = f"{instance_name}-final-snapshot-{number}"
    return candidate


def _attributes(record: dict[str, Any]) -> dict[str, Any]:
    return {**provisioners._rds_db_instance_attrs(record), "Endpoint.HostedZoneId": record["Endpoint"]["HostedZoneId"]}
