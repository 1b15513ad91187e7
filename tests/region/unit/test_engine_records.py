"""The private keys of MiniStack's records of databases and caches that the region's components read."""

from __future__ import annotations

from typing import Any

from ministack.services import elasticache, rds
from ministack.services.cloudformation import provisioners


def test_a_database_record_has_the_master_password() -> None:
    properties = {"DBInstanceIdentifier": "keys", "Engine": "postgres", "MasterUserPassword": "a password"}
    provisioners._rds_db_instance_create("Database", properties, "stack")
    record: dict[str, Any] = rds._instances["keys"]
    assert record["_MasterUserPassword"] == "a password"
    assert {"DbiResourceId", "DBInstanceStatus", "DBParameterGroups", "DBSubnetGroup", "Endpoint"} <= set(record)
    provisioners._rds_db_instance_delete("keys", properties)


def test_a_replication_group_record_has_its_tokens_and_replicas() -> None:
    properties = {
        "ReplicationGroupId": "keys",
        "ReplicationGroupDescription": "keys",
        "NumCacheClusters": 2,
        "AuthToken": "a-token-of-16-or-more",
        "TransitEncryptionEnabled": True,
    }
    provisioners._ec_rg_create("Group", properties, "stack")
    record: dict[str, Any] = elasticache._replication_groups["keys"]
    assert (record["_auth_tokens"], record["_replicas_per_node_group"]) == (["a-token-of-16-or-more"], 1)
    assert len(record["MemberClusters"]) == 2
    provisioners._ec_rg_delete("keys", properties)
