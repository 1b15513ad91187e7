"""RDS's and ElastiCache's records: their API, their resource types, after a restart, and from an earlier version."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ministack import app
from ministack.core.responses import request_scope

from alva.region import control_plane
from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.control_plane import ServiceError
from alva.region.elasticache import api as elasticache_api
from alva.region.elasticache.records import CacheStore, ReplicationGroup
from alva.region.engine_api import CommonApi
from alva.region.engine_groups import GroupTypes
from alva.region.engine_records import Store, SubnetGroup
from alva.region.rds import api as rds_api
from alva.region.rds.databases import Databases
from alva.region.rds.records import DBInstance
from alva.region.rds.resources import attributes_of

HOME = ("000000000000", "us-east-1")
ZONES = {"subnet-a": "us-east-1a", "subnet-b": "us-east-1b"}
SUBNETS = {
    **{name: {"SubnetId": name, "VpcId": "vpc-1", "AvailabilityZone": zone} for name, zone in ZONES.items()},
    "subnet-x": {"SubnetId": "subnet-x", "VpcId": "vpc-2", "AvailabilityZone": "us-east-1b"},
}


def db_instance(name: str, **fields: Any) -> DBInstance:
    record = DBInstance(
        name=name, arn=f"arn:aws:rds:us-east-1:000000000000:db:{name}", engine_version="16.14", port=5432,
        subnet_group="subnets", parameter_group="parameters", security_groups=["sg-1"], created_at=1.5,
        host=f"{name}.example", instance_class="db.t3.micro", master_username="alva", password="secret",
        database="alva", **{"resource_id": "db-1", "status": "available", **fields},
    )  # fmt: skip
    record.shown = {"AllocatedStorage": "30", "MultiAZ": "true"}
    return record


def replication_group(name: str) -> ReplicationGroup:
    return ReplicationGroup(
        name=name, arn=f"arn:aws:elasticache:us-east-1:000000000000:replicationgroup:{name}", engine_version="7.1",
        port=6379, subnet_group="subnets", parameter_group="parameters", security_groups=[], created_at=1.5,
        description="a & b", engine="redis", node_type="cache.t3.micro", replicas=1, has_tls=True, tokens=["t" * 16],
        own_name="own", primary_host="master.example", reader_host="replica.example", status="available",
        tags={"a": "b"},
    )  # fmt: skip


class Engines:
    """Both services without a data plane, called as by an AWS SDK."""

    def __init__(self) -> None:
        config = SimpleNamespace(state_folder=Path("unused"), account_id=HOME[0], region=HOME[1])
        region: Any = SimpleNamespace(background=None, config=config)
        self.databases = Databases(region)
        self.databases._known_parameters = {"log_min_duration_statement": "superuser", "max_connections": "postmaster"}
        self.rds = self.databases.store
        self.caches = CacheStore(*HOME)
        self.rds_groups = CommonApi(self.rds, rds_api.parameters_of(self.databases))
        self.cache_groups = CommonApi(self.caches, elasticache_api.PARAMETERS)
        self.rds_service = rds_api.api_of(self.databases, self.rds_groups)
        self.cache_service = elasticache_api.api_of(self.cache_groups)

    def __call__(self, service: str, action: str, scope: tuple[str, str] = HOME, **request: Any) -> Any:
        with request_scope(*scope):
            answer = asyncio.run(control_plane.call(service, action, request))
        answer.pop("ResponseMetadata")
        return answer

    def refusal(self, service: str, action: str, scope: tuple[str, str] = HOME, **request: Any) -> tuple[str, str]:
        with pytest.raises(ServiceError) as refused:
            self(service, action, scope, **request)
        return refused.value.code, refused.value.message

    def fill(self) -> None:
        """Add a subnet group, a parameter group and an engine to each service."""
        for service, prefix, family in (("rds", "DB", "postgres16"), ("elasticache", "Cache", "redis7")):
            self(service, f"Create{prefix}SubnetGroup", SubnetIds=list(ZONES), **{
                f"{prefix}SubnetGroupName": "subnets", f"{prefix}SubnetGroupDescription": "private",
            })  # fmt: skip
            self(service, f"Create{prefix}ParameterGroup", Description="ours", Tags=[{"Key": "k", "Value": "v"}], **{
                f"{prefix}ParameterGroupName": "parameters", f"{prefix}ParameterGroupFamily": family,
            })  # fmt: skip
        self.rds.engines["main"] = db_instance("main", tags={"a": "b"})
        self.rds.snapshots["saved"] = self.rds.engines["main"].snapshot("saved", "arn:snapshot", "vpc-1", 2.5)
        self.caches.engines["queue"] = replication_group("queue")


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:

    async def subnets(store: Any, ids: list[str]) -> list[dict[str, str]]:
        del store
        return [SUBNETS[each] for each in ids if each in SUBNETS]

    monkeypatch.setattr("alva.region.engine_api.subnets", subnets)
    made = Engines()
    monkeypatch.setitem(app.SERVICE_HANDLERS, "rds", made.rds_service.handle_request)
    monkeypatch.setitem(app.SERVICE_HANDLERS, "elasticache", made.cache_service.handle_request)
    return made


def test_saved_state_is_restored_unchanged(engines: Engines) -> None:
    engines.fill()
    for store in (engines.rds, engines.caches):
        restored: Store[Any] = type(store)(*HOME)
        restored.load_persisted_state(json.loads(json.dumps(store.get_state())))
        assert vars(restored) == vars(store)


def test_a_described_instance_has_what_its_template_sets(engines: Engines) -> None:
    engines.fill()
    (found,) = engines("rds", "DescribeDBInstances", DBInstanceIdentifier="main")["DBInstances"]
    assert (found["AllocatedStorage"], found["MultiAZ"]) == (30, True)
    assert found["Endpoint"] == {"Address": "main.example", "Port": 5432, "HostedZoneId": "Z2R2ITUGPM61AM"}
    assert found["DBSubnetGroup"]["VpcId"] == "vpc-1"
    assert found["VpcSecurityGroups"] == [{"VpcSecurityGroupId": "sg-1", "Status": "active"}]
    assert found["TagList"] == [{"Key": "a", "Value": "b"}]
    assert found["DBInstanceArn"] == attributes_of(engines.rds.engines["main"])["DBInstanceArn"]
    (snapshot,) = engines("rds", "DescribeDBSnapshots", DBInstanceIdentifier="main")["DBSnapshots"]
    assert (snapshot["Status"], snapshot["AllocatedStorage"], snapshot["VpcId"]) == ("available", 30, "vpc-1")


def test_filters_select_and_an_unknown_one_is_refused(engines: Engines) -> None:
    engines.fill()

    def names(**filters: str) -> list[str]:
        listed = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
        return [
            each["DBInstanceIdentifier"]
            for each in engines("rds", "DescribeDBInstances", Filters=listed)["DBInstances"]
        ]

    assert names(db_instance_id="main", engine="postgres") == ["main"]
    assert names(engine="mysql") == []
    assert engines.refusal("rds", "DescribeDBInstances", Filters=[{"Name": "colour", "Values": ["red"]}]) == (
        "InvalidParameterValue",
        "Unrecognized filter name: colour",
    )


def test_the_nodes_of_a_group_are_its_clusters(engines: Engines) -> None:
    engines.fill()
    (group,) = engines("elasticache", "DescribeReplicationGroups")["ReplicationGroups"]
    assert group["MemberClusters"] == ["queue-001", "queue-002"]
    assert group["Description"] == "a & b"
    members = group["NodeGroups"][0]["NodeGroupMembers"]
    assert [each["CurrentRole"] for each in members] == ["primary", "replica"]
    clusters = engines("elasticache", "DescribeCacheClusters", ShowCacheNodeInfo=True)["CacheClusters"]
    assert [each["CacheNodes"][0]["Endpoint"]["Address"] for each in clusters] == ["master.example", "replica.example"]
    assert "CacheNodes" not in engines("elasticache", "DescribeCacheClusters")["CacheClusters"][0]
    assert engines("elasticache", "ListTagsForResource", ResourceName=clusters[1]["ARN"])["TagList"] == [
        {"Key": "a", "Value": "b"}
    ]


@pytest.mark.parametrize(
    ("service", "action", "request_", "code"),
    [
        ("rds", "DescribeDBInstances", {"DBInstanceIdentifier": "none"}, "DBInstanceNotFound"),
        ("rds", "DescribeDBSnapshots", {"DBSnapshotIdentifier": "none"}, "DBSnapshotNotFound"),
        ("rds", "DescribeDBSubnetGroups", {"DBSubnetGroupName": "none"}, "DBSubnetGroupNotFoundFault"),
        ("rds", "DescribeDBParameters", {"DBParameterGroupName": "none"}, "DBParameterGroupNotFound"),
        ("rds", "CreateDBSnapshot", {"DBSnapshotIdentifier": "saved", "DBInstanceIdentifier": "main"},
         "DBSnapshotAlreadyExists"),
        ("rds", "StartDBInstance", {"DBInstanceIdentifier": "main"}, "InvalidDBInstanceState"),
        ("rds", "StartDBInstance", {}, "ValidationError"),
        ("rds", "CreateDBSubnetGroup", {"SubnetIds": ["subnet-a"]}, "DBSubnetGroupDoesNotCoverEnoughAZs"),
        ("rds", "CreateDBSubnetGroup", {"SubnetIds": ["subnet-a", "subnet-x"]}, "InvalidSubnet"),
        ("rds", "CreateDBSubnetGroup", {"SubnetIds": ["subnet-a", "none"]}, "InvalidSubnet"),
        ("rds", "CreateDBParameterGroup",
         {"DBParameterGroupName": "x", "DBParameterGroupFamily": "mysql8.0", "Description": "x"},
         "InvalidParameterValue"),
        ("rds", "DeleteDBSubnetGroup", {"DBSubnetGroupName": "subnets"}, "InvalidDBSubnetGroupStateFault"),
        ("rds", "DeleteDBParameterGroup", {"DBParameterGroupName": "parameters"}, "InvalidDBParameterGroupState"),
        ("rds", "DeleteDBParameterGroup", {"DBParameterGroupName": "default.postgres16"},
         "InvalidDBParameterGroupState"),
        ("rds", "ModifyDBInstance", {"DBInstanceIdentifier": "main"}, "InvalidAction"),
        ("rds", "DescribeDBClusters", {}, "InvalidAction"),
        ("elasticache", "DescribeReplicationGroups", {"ReplicationGroupId": "none"}, "ReplicationGroupNotFoundFault"),
        ("elasticache", "DescribeCacheClusters", {"CacheClusterId": "none"}, "CacheClusterNotFound"),
        ("elasticache", "DeleteCacheSubnetGroup", {"CacheSubnetGroupName": "subnets"}, "CacheSubnetGroupInUse"),
        ("elasticache", "DeleteCacheParameterGroup", {"CacheParameterGroupName": "parameters"},
         "InvalidCacheParameterGroupState"),
        ("elasticache", "CreateReplicationGroup",
         {"ReplicationGroupId": "x", "ReplicationGroupDescription": "x"}, "InvalidAction"),
    ],
)  # fmt: skip
def test_what_aws_refuses_is_refused(
    engines: Engines, service: str, action: str, request_: dict[str, Any], code: str
) -> None:
    engines.fill()
    if "SubnetIds" in request_:
        request_ = {"DBSubnetGroupName": "x", "DBSubnetGroupDescription": "x", **request_}
    before = engines.rds.get_state(), engines.caches.get_state()
    assert engines.refusal(service, action, **request_)[0] == code
    assert (engines.rds.get_state(), engines.caches.get_state()) == before


def test_parameters_are_described_with_their_sources(engines: Engines) -> None:
    engines.fill()
    engines.rds.parameter_groups["parameters"].values["max_connections"] = "57"
    described = engines("rds", "DescribeDBParameters", DBParameterGroupName="parameters")["Parameters"]
    found = {each["ParameterName"]: each for each in described}
    assert found["max_connections"]["ParameterValue"] == "57"
    assert (found["max_connections"]["Source"], found["max_connections"]["ApplyType"]) == ("user", "static")
    assert (found["rds.force_ssl"]["ParameterValue"], found["rds.force_ssl"]["ApplyType"]) == ("1", "dynamic")
    own = engines("rds", "DescribeDBParameters", DBParameterGroupName="parameters", Source="user")["Parameters"]
    assert [each["ParameterName"] for each in own] == ["max_connections"]
    cache = engines("elasticache", "DescribeCacheParameters", CacheParameterGroupName="default.redis7")["Parameters"]
    assert {"maxmemory-policy": "volatile-lru"}.items() <= {
        each["ParameterName"]: each.get("ParameterValue") for each in cache
    }.items()


def test_tags_are_added_and_removed(engines: Engines) -> None:
    engines.fill()
    arn = engines.rds.parameter_groups["parameters"].arn
    engines("rds", "AddTagsToResource", ResourceName=arn, Tags=[{"Key": "new", "Value": "1"}])
    engines("rds", "RemoveTagsFromResource", ResourceName=arn, TagKeys=["k"])
    assert engines("rds", "ListTagsForResource", ResourceName=arn)["TagList"] == [{"Key": "new", "Value": "1"}]


def test_another_region_has_no_records_and_gets_none(engines: Engines) -> None:
    engines.fill()
    scope = (HOME[0], "eu-west-1")
    assert engines("rds", "DescribeDBInstances", scope)["DBInstances"] == []
    assert engines("elasticache", "DescribeReplicationGroups", scope)["ReplicationGroups"] == []
    code, message = engines.refusal("rds", "RebootDBInstance", scope, DBInstanceIdentifier="main")
    assert (code, message) == (
        "InvalidAction",
        "the local region does not have RDS RebootDBInstance outside account 000000000000 and region us-east-1",
    )


class Groups:
    """The resource types of RDS's groups."""

    def __init__(self, engines: Engines) -> None:
        self.changes: list[tuple[str, dict[str, str]]] = []
        self.types = GroupTypes(engines.rds_groups, self._check, self._changed)
        self.store = engines.rds

    async def _check(self, values: Any) -> None:
        del values

    async def _changed(self, name: str, values: Any) -> None:
        self.changes.append((name, values))


def test_parameter_group_of_a_stack_is_created_changed_and_deleted(engines: Engines) -> None:
    groups = Groups(engines)
    before = {"Family": "postgres16", "Description": "x", "Parameters": {"a": 1, "b": True}}
    after = {**before, "Parameters": {"a": 2}, "Tags": [{"Key": "k", "Value": "v"}]}

    async def go() -> str:
        name, attributes = await groups.types.create_parameter_group("Group", before, "stack")
        record = groups.store.parameter_groups[name]
        assert record.values == {"a": "1", "b": "true"}
        assert attributes == {"DBParameterGroupName": name, "DBParameterGroupArn": record.arn}
        await groups.types.update_parameter_group(name, before, after, "stack")
        assert (record.values, record.tags) == ({"a": "2"}, {"k": "v"})
        await groups.types.delete_parameter_group(name, after)
        await groups.types.delete_parameter_group(name, after)
        return name

    with request_scope(*HOME):
        name = asyncio.run(go())
    assert name.startswith("stack-group-")
    assert groups.changes == [(name, {"a": "2", "b": ""})]
    assert set(groups.store.parameter_groups) == {"default.postgres16"}


def test_subnet_group_of_a_stack_is_created_changed_and_deleted(engines: Engines) -> None:
    groups = Groups(engines)
    before = {"DBSubnetGroupName": "subnets", "DBSubnetGroupDescription": "x", "SubnetIds": list(ZONES)}
    after = {**before, "DBSubnetGroupDescription": "y"}

    async def go() -> None:
        name, attributes = await groups.types.create_subnet_group("Group", before, "stack")
        assert attributes == {"DBSubnetGroupArn": "arn:aws:rds:us-east-1:000000000000:subgrp:subnets"}
        with pytest.raises(HandlerFailed, match="already exists"):
            await groups.types.create_subnet_group("Group", before, "stack")
        await groups.types.update_subnet_group(name, before, after, "stack")
        assert groups.store.subnet_groups[name].description == "y"
        await groups.types.delete_subnet_group(name, after)

    with request_scope(*HOME):
        asyncio.run(go())
    assert groups.store.subnet_groups == {}


def test_stack_of_another_region_gets_no_group(engines: Engines) -> None:
    groups = Groups(engines)
    with request_scope(HOME[0], "eu-west-1"), pytest.raises(HandlerFailed, match="outside account 000000000000"):
        asyncio.run(groups.types.create_subnet_group("Group", {"SubnetIds": list(ZONES)}, "stack"))


# The format of alva 0.x, as it was saved.

SUBNETS_BEFORE = [{"SubnetIdentifier": name, "SubnetAvailabilityZone": {"Name": zone}} for name, zone in ZONES.items()]
RDS_BEFORE: dict[str, Any] = {
    "instances": {
        "main": {
            "DBInstanceIdentifier": "main", "DBInstanceStatus": "available", "MasterUsername": "alva",
            "_MasterUserPassword": "secret", "DBName": "alva", "InstanceCreateTime": "2026-11-30T00:00:17.500Z",
            "Endpoint": {"Address": "main.example", "Port": 5432, "HostedZoneId": "Z2R2ITUGPM61AM"},
            "DBSubnetGroup": {"DBSubnetGroupName": "subnets"}, "StorageEncrypted": True, "KmsKeyId": "",
            "DbiResourceId": "db-1", "DBInstanceArn": "arn:aws:rds:us-east-1:000000000000:db:main",
            "TagList": [{"Key": "a", "Value": "b"}], "DBInstanceClass": "db.t3.micro", "EngineVersion": "16.14",
            "AllocatedStorage": 30, "MaxAllocatedStorage": None,
            "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-1", "Status": "active"}],
            "DBParameterGroups": [{"DBParameterGroupName": "parameters", "ParameterApplyStatus": "pending-reboot"}],
            "AvailabilityZone": "us-east-1a", "DeletionProtection": True,
            "EnabledCloudwatchLogsExports": ["postgresql"], "_address": "10.0.10.4", "_stopped": True,
        }
    },
    "subnet_groups": {
        "subnets": {"DBSubnetGroupDescription": "private", "VpcId": "vpc-1", "Subnets": SUBNETS_BEFORE}
    },
    "param_groups": {
        "parameters": {
            "DBParameterGroupFamily": "postgres16", "Description": "ours",
            "Parameters": {"rds.force_ssl": {"ParameterValue": "1", "ApplyMethod": "immediate"}},
        }
    },
    "snapshots": {
        "saved": {
            "DBSnapshotIdentifier": "saved", "DBInstanceIdentifier": "main", "EngineVersion": "16.14",
            "DBSnapshotArn": "arn:aws:rds:us-east-1:000000000000:snapshot:saved", "Encrypted": True,
            "SnapshotCreateTime": "2026-11-30T00:00:19.500Z", "InstanceCreateTime": "2026-11-30T00:00:17.500Z",
            "AllocatedStorage": 30, "MasterUsername": "alva", "DBName": "alva", "TagList": [],
        }
    },
    "tags": {"arn:aws:rds:us-east-1:000000000000:pg:parameters": [{"Key": "k", "Value": "v"}]},
    "port_counter": 15432,
}  # fmt: skip
CACHE_BEFORE: dict[str, Any] = {
    "replication_groups": {
        "queue": {
            "ReplicationGroupId": "queue", "Description": "jobs", "Status": "available",
            "MemberClusters": ["queue-001"], "Engine": "redis", "EngineVersion": "7.1",
            "NodeGroups": [{
                "PrimaryEndpoint": {"Address": "master.example", "Port": 6379},
                "ReaderEndpoint": {"Address": "replica.example", "Port": 6379},
                "NodeGroupMembers": [{"CacheClusterId": "queue-001", "PreferredAvailabilityZone": "us-east-1a"}],
            }],
            "CacheNodeType": "cache.t3.micro", "CacheParameterGroupName": "parameters", "MultiAZ": "disabled",
            "CacheSubnetGroupName": "subnets", "TransitEncryptionEnabled": True, "TransitEncryptionMode": "required",
            "_auth_tokens": ["a-token-of-more-than-sixteen"], "AutomaticFailover": "enabled",
            "ARN": "arn:aws:elasticache:us-east-1:000000000000:replicationgroup:queue",
            "_replicas_per_node_group": 0, "_security_groups": ["sg-1"], "_addresses": ["10.0.10.5"], "_port": 6379,
            "_own_name": "own",
        }
    },
    "clusters": {"queue-001": {"CacheClusterCreateTime": 1.5}},
    "subnet_groups": {
        "subnets": {"CacheSubnetGroupDescription": "private", "VpcId": "vpc-1", "Subnets": SUBNETS_BEFORE}
    },
    "param_groups": {
        "default.redis7": {"CacheParameterGroupFamily": "redis7", "Description": "theirs"},
        "parameters": {"CacheParameterGroupFamily": "redis7", "Description": "ours"},
    },
    "param_group_params": {
        "parameters": {
            "maxmemory-policy": {"Value": "noeviction", "Source": "user"},
            "timeout": {"Value": "0", "Source": "system"},
        }
    },
    "tags": {"arn:aws:elasticache:us-east-1:000000000000:replicationgroup:queue": [{"Key": "a", "Value": "b"}]},
    "serverless_ca": {},
    "port_counter": 16379,
}  # fmt: skip


def test_rds_of_an_earlier_version_is_restored(engines: Engines) -> None:
    engines.rds.load_persisted_state(RDS_BEFORE)
    record = engines.rds.engines["main"]
    assert (record.addresses, record.password, record.is_stopped) == (["10.0.10.4"], "secret", True)
    assert (record.resource_id, record.allocated_gib, record.tags) == ("db-1", 30, {"a": "b"})
    assert engines.rds.subnet_groups["subnets"] == SubnetGroup(
        name="subnets", arn="arn:aws:rds:us-east-1:000000000000:subgrp:subnets", description="private",
        vpc_id="vpc-1", zones=ZONES,
    )  # fmt: skip
    group = engines.rds.parameter_groups["parameters"]
    assert (group.values, group.tags) == ({"rds.force_ssl": "1"}, {"k": "v"})
    (found,) = engines("rds", "DescribeDBInstances")["DBInstances"]
    assert (found["StorageEncrypted"], found["DeletionProtection"]) == (True, True)
    assert found["DBParameterGroups"][0]["ParameterApplyStatus"] == "pending-reboot"
    assert found["InstanceCreateTime"].isoformat() == "2026-11-30T00:00:17.500000+00:00"
    (snapshot,) = engines("rds", "DescribeDBSnapshots")["DBSnapshots"]
    assert (snapshot["MasterUsername"], snapshot["Encrypted"]) == ("alva", True)


def test_elasticache_of_an_earlier_version_is_restored(engines: Engines) -> None:
    engines.caches.load_persisted_state(CACHE_BEFORE)
    record = engines.caches.engines["queue"]
    assert (record.addresses, record.nodes, record.own_name) == (["10.0.10.5"], ["queue-001"], "own")
    assert (record.tokens, record.tags) == (["a-token-of-more-than-sixteen"], {"a": "b"})
    assert engines.caches.parameter_groups["parameters"].values == {"maxmemory-policy": "noeviction"}
    assert "default.redis7" in engines.caches.parameter_groups
    (group,) = engines("elasticache", "DescribeReplicationGroups")["ReplicationGroups"]
    assert (group["AutomaticFailover"], group["MultiAZ"]) == ("enabled", "disabled")
    assert group["NodeGroups"][0]["PrimaryEndpoint"] == {"Address": "master.example", "Port": 6379}
