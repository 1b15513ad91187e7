"""DB instances and snapshots, and RDS's store."""

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
    pairs,
    seconds,
    tags_of,
)

HOSTED_ZONE_ID = "Z2R2ITUGPM61AM"
"""The hosted zone of RDS endpoints in us-east-1.
https://docs.aws.amazon.com/general/latest/gr/rds-service.html"""

# Properties that are only shown: there is one disk and one machine, and no maintenance window.
RECORDED = frozenset({
    "AllocatedStorage", "MaxAllocatedStorage", "StorageType", "StorageThroughput", "Iops", "StorageEncrypted",
    "KmsKeyId", "PubliclyAccessible", "MultiAZ", "BackupRetentionPeriod", "PreferredBackupWindow",
    "PreferredMaintenanceWindow", "AutoMinorVersionUpgrade", "AllowMajorVersionUpgrade", "CACertificateIdentifier",
    "CopyTagsToSnapshot", "DeleteAutomatedBackups", "EnablePerformanceInsights", "PerformanceInsightsRetentionPeriod",
    "PerformanceInsightsKMSKeyId", "MonitoringInterval", "MonitoringRoleArn", "NetworkType", "LicenseModel",
})  # fmt: skip
_RENAMED = {"EnablePerformanceInsights": "PerformanceInsightsEnabled"}
_DEFAULTS: Json = {
    "AllocatedStorage": 20,
    "StorageType": "gp2",
    "StorageEncrypted": False,
    "PubliclyAccessible": False,
    "MultiAZ": False,
    "BackupRetentionPeriod": 1,
    "PreferredBackupWindow": "03:00-04:00",
    "PreferredMaintenanceWindow": "sun:05:00-sun:06:00",
    "AutoMinorVersionUpgrade": True,
    "CACertificateIdentifier": "rds-ca-rsa2048-g1",
    "CopyTagsToSnapshot": False,
    "PerformanceInsightsEnabled": False,
    "MonitoringInterval": 0,
    "NetworkType": "IPV4",
    "LicenseModel": "postgresql-license",
}


@dataclass(kw_only=True)
class DBInstance(EngineRecord):
    resource_id: str
    """DbiResourceId, which also names its folder."""
    host: str
    """The name of its endpoint."""
    instance_class: str
    master_username: str
    password: str
    database: str
    log_exports: list[str] = field(default_factory=list)
    parameter_status: str = "in-sync"
    is_protected: bool = False
    is_stopped: bool = False
    """Whether it remains stopped when the region starts."""

    def __str__(self) -> str:
        return f"DB instance {self.name}"

    def set(self, properties: Mapping[str, Any]) -> None:
        """Set what an update of the stack can change. `properties` has the engine's version and the default port."""
        self.engine_version = properties["EngineVersion"]
        self.instance_class = properties["DBInstanceClass"]
        self.port = int(properties["Port"])
        self.parameter_group = properties["DBParameterGroupName"]
        self.security_groups = list(properties.get("VPCSecurityGroups") or ())
        self.log_exports = list(properties.get("EnableCloudwatchLogsExports") or ())
        self.is_protected = is_true(properties.get("DeletionProtection"))
        self.password = properties.get("MasterUserPassword") or self.password
        self.shown = chosen(properties, RECORDED, _RENAMED)

    @property
    def allocated_gib(self) -> int:
        return int(self._shown("AllocatedStorage"))

    def _shown(self, name: str) -> Any:
        return self.shown.get(name, _DEFAULTS[name])

    def described(self, subnet_group: SubnetGroup | None) -> Json:
        """A DBInstance of DescribeDBInstances."""
        return {
            **_DEFAULTS,
            **self.shown,
            "DBInstanceIdentifier": self.name,
            "DBInstanceArn": self.arn,
            "DbiResourceId": self.resource_id,
            "DBInstanceClass": self.instance_class,
            "DBInstanceStatus": self.status,
            "Engine": "postgres",
            "EngineVersion": self.engine_version,
            "MasterUsername": self.master_username,
            "DBName": self.database,
            "Endpoint": {"Address": self.host, "Port": self.port, "HostedZoneId": HOSTED_ZONE_ID},
            "DbInstancePort": 0,
            "InstanceCreateTime": self.created_at,
            "AvailabilityZone": next(iter(self.zones), None),
            "DBSubnetGroup": subnet_group.described("DB") if subnet_group else None,
            "DBParameterGroups": [
                {"DBParameterGroupName": self.parameter_group, "ParameterApplyStatus": self.parameter_status}
            ],
            "OptionGroupMemberships": [{"OptionGroupName": "default:postgres-16", "Status": "in-sync"}],
            "DBSecurityGroups": [],
            "VpcSecurityGroups": [{"VpcSecurityGroupId": each, "Status": "active"} for each in self.security_groups],
            "EnabledCloudwatchLogsExports": self.log_exports or None,
            "DeletionProtection": self.is_protected,
            "IAMDatabaseAuthenticationEnabled": False,
            "ActivityStreamStatus": "stopped",
            "AssociatedRoles": [],
            "BackupTarget": "region",
            "CustomerOwnedIpEnabled": False,
            "DedicatedLogVolume": False,
            "DomainMemberships": [],
            "PendingModifiedValues": {},
            "ReadReplicaDBInstanceIdentifiers": [],
            "TagList": pairs(self.tags),
        }

    def snapshot(self, name: str, arn: str, vpc_id: str, now: float) -> DBSnapshot:
        """A snapshot of its present data."""
        return DBSnapshot(
            name=name,
            arn=arn,
            tags=dict(self.tags) if is_true(self._shown("CopyTagsToSnapshot")) else {},
            instance=self.name,
            database=self.database,
            master_username=self.master_username,
            created_at=now,
            shown={
                "DbiResourceId": self.resource_id,
                "InstanceCreateTime": self.created_at,
                "EngineVersion": self.engine_version,
                "Port": self.port,
                "VpcId": vpc_id,
                "AvailabilityZone": next(iter(self.zones), None),
                "AllocatedStorage": self.allocated_gib,
                "Encrypted": self._shown("StorageEncrypted"),
                **chosen(self.shown, ("StorageType", "StorageThroughput", "Iops", "KmsKeyId"), {}),
            },
        )


@dataclass(kw_only=True)
class DBSnapshot(Record):
    instance: str
    database: str
    master_username: str
    created_at: float
    shown: Json

    def described(self) -> Json:
        """A DBSnapshot of DescribeDBSnapshots."""
        return {
            "StorageType": _DEFAULTS["StorageType"],
            "LicenseModel": _DEFAULTS["LicenseModel"],
            **self.shown,
            "DBSnapshotIdentifier": self.name,
            "DBSnapshotArn": self.arn,
            "DBInstanceIdentifier": self.instance,
            "MasterUsername": self.master_username,
            "Engine": "postgres",
            "Status": "available",
            "PercentProgress": 100,
            "SnapshotType": "manual",
            "SnapshotTarget": "region",
            "SnapshotCreateTime": self.created_at,
            "OriginalSnapshotCreateTime": self.created_at,
            "SnapshotDatabaseTime": self.created_at,
            "IAMDatabaseAuthenticationEnabled": False,
            "TagList": pairs(self.tags),
        }


class RdsStore(Store[DBInstance]):
    """RDS's records."""

    service = "rds"
    title = "RDS"
    sdk_name = "Rds"
    prefix = "DB"
    families = ("postgres16",)
    kinds: ClassVar[Mapping[str, tuple[str, type[Record]]]] = {
        "engines": ("db", DBInstance),
        "snapshots": ("snapshot", DBSnapshot),
        "subnet_groups": ("subgrp", SubnetGroup),
        "parameter_groups": ("pg", ParameterGroup),
    }

    def __init__(self, account_id: str, region: str) -> None:
        super().__init__(account_id, region)
        self.snapshots: dict[str, DBSnapshot] = {}

    def no_engine(self, name: str) -> AwsError:
        """DBInstanceNotFound."""
        return AwsError("DBInstanceNotFound", f"DBInstance {name} not found.", 404)

    def snapshot(self, name: str) -> DBSnapshot:
        """The snapshot of that name. Raises AwsError."""
        if name not in self.snapshots:
            raise AwsError("DBSnapshotNotFound", f"DBSnapshot {name} not found.", 404)
        return self.snapshots[name]

    def from_earlier_version(self, data: Mapping[str, Json]) -> Json:
        """Convert MiniStack's records."""
        return {
            **self.groups_from_earlier_version(data),
            "engines": [_instance(record) for record in data["instances"].values()],
            "snapshots": [_snapshot(record) for record in data["snapshots"].values()],
        }


def _instance(record: Json) -> Json:
    """A DB instance in the format of alva 0.x."""
    (group, *_) = record["DBParameterGroups"]
    return {
        "name": record["DBInstanceIdentifier"],
        "arn": record["DBInstanceArn"],
        "tags": tags_of(record["TagList"]),
        "status": record["DBInstanceStatus"],
        "engine_version": record["EngineVersion"],
        "port": int(record["Endpoint"]["Port"]),
        "subnet_group": record["DBSubnetGroup"]["DBSubnetGroupName"],
        "parameter_group": group["DBParameterGroupName"],
        "parameter_status": group["ParameterApplyStatus"],
        "security_groups": [each["VpcSecurityGroupId"] for each in record["VpcSecurityGroups"]],
        "addresses": [record["_address"]] if record.get("_address") else [],
        "zones": [record["AvailabilityZone"]],
        "created_at": seconds(record["InstanceCreateTime"]),
        "shown": chosen(record, {*_DEFAULTS, *RECORDED}, {}),
        "resource_id": record["DbiResourceId"],
        "host": record["Endpoint"]["Address"],
        "instance_class": record["DBInstanceClass"],
        "master_username": record["MasterUsername"],
        "password": record["_MasterUserPassword"],
        "database": record["DBName"],
        "log_exports": record["EnabledCloudwatchLogsExports"],
        "is_protected": record["DeletionProtection"],
        "is_stopped": bool(record.get("_stopped")),
    }


def _snapshot(record: Json) -> Json:
    """A snapshot in the format of alva 0.x."""
    return {
        "name": record["DBSnapshotIdentifier"],
        "arn": record["DBSnapshotArn"],
        "tags": tags_of(record["TagList"]),
        "instance": record["DBInstanceIdentifier"],
        "database": record["DBName"],
        "master_username": record["MasterUsername"],
        "created_at": seconds(record["SnapshotCreateTime"]),
        "shown": {
            **chosen(record, ("DbiResourceId", "EngineVersion", "Port", "AvailabilityZone", "AllocatedStorage"), {}),
            **chosen(record, ("Encrypted", "StorageType"), {}),
            "InstanceCreateTime": seconds(record["InstanceCreateTime"]),
        },
    }
