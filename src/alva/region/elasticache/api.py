"""The ElastiCache API. Calls that would create or change nodes are refused."""

from __future__ import annotations

from collections.abc import Callable

from alva.region import engine_api
from alva.region.aws_error import AwsError
from alva.region.elasticache import parameters
from alva.region.elasticache.records import CacheStore, ReplicationGroup
from alva.region.engine_api import CommonApi, EngineApi, EngineParameters
from alva.region.engine_records import Json

REFUSED = frozenset({
    "CreateReplicationGroup", "ModifyReplicationGroup", "DeleteReplicationGroup", "IncreaseReplicaCount",
    "DecreaseReplicaCount", "CreateCacheCluster", "ModifyCacheCluster", "DeleteCacheCluster", "RebootCacheCluster",
    "CreateServerlessCache", "CreateSnapshot", "CopySnapshot", "TestFailover", "ModifyCacheParameterGroup",
    "ResetCacheParameterGroup", "CreateUser", "CreateUserGroup",
})  # fmt: skip
"""Operations whose refusal names CloudFormation; all others without a function below are refused, too."""


def describe_groups(store: CacheStore, request: Json) -> Json:
    """DescribeReplicationGroups."""
    name = request.get("ReplicationGroupId")
    found = [store.engine(name)] if name else store.engines.values()
    return {"ReplicationGroups": [each.described() for each in found]}


def describe_clusters(store: CacheStore, request: Json) -> Json:
    """DescribeCacheClusters: the nodes of the replication groups."""
    name = request.get("CacheClusterId")
    has_endpoints = bool(request.get("ShowCacheNodeInfo"))
    nodes = [node for each in store.engines.values() for node in each.described_nodes(has_endpoints=has_endpoints)]
    found = [node for node in nodes if name in (None, node["CacheClusterId"])]
    if name and not found:
        raise AwsError("CacheClusterNotFound", f"CacheCluster not found: {name}", 404)
    return {"CacheClusters": [] if request.get("ShowCacheClustersNotInReplicationGroups") else found}


DESCRIPTIONS: dict[str, Callable[[CacheStore, Json], Json]] = {
    "DescribeCacheClusters": describe_clusters,
    "DescribeReplicationGroups": describe_groups,
}
ACTIONS = frozenset({*engine_api.actions("Cache"), *DESCRIPTIONS})


async def _known_parameters() -> dict[str, bool]:
    # ElastiCache User Guide, "Redis OSS parameters": a change of `databases` needs a restart.
    return {name: name == "databases" for name in parameters.MODIFIABLE}


PARAMETERS = EngineParameters(known=_known_parameters, defaults=parameters.DEFAULTS)


def api_of(common: CommonApi[ReplicationGroup]) -> EngineApi[ReplicationGroup]:
    """The API; `common` has the actions of groups and tags."""
    return EngineApi(common, CommonApi(CacheStore("", ""), PARAMETERS), DESCRIPTIONS, {}, REFUSED)
