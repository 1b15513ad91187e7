"""The ElastiCache API: describing is MiniStack's; what would need a node of its own is refused."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from ministack import app as ministack_app
from ministack.services import elasticache

Response = tuple[int, dict[str, str], bytes]

REFUSED = frozenset({
    "CreateReplicationGroup", "ModifyReplicationGroup", "DeleteReplicationGroup", "IncreaseReplicaCount",
    "DecreaseReplicaCount", "CreateCacheCluster", "ModifyCacheCluster", "DeleteCacheCluster", "RebootCacheCluster",
    "CreateServerlessCache", "CreateSnapshot", "CopySnapshot", "TestFailover", "ModifyCacheParameterGroup",
    "ResetCacheParameterGroup", "CreateUser", "CreateUserGroup",
})  # fmt: skip


def install() -> None:
    """Put the refusals in front of MiniStack's operations."""

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        parameters = {**query_params, **parse_qs(body.decode(errors="replace"), keep_blank_values=True)}
        action = elasticache._p(parameters, "Action")
        if action in REFUSED:
            refused: Response = elasticache._error(
                "InvalidAction", f"the local region does not have ElastiCache {action}: use CloudFormation", 400
            )
            return refused
        response: Response = await elasticache.handle_request(method, path, headers, body, query_params)
        return response

    ministack_app.SERVICE_HANDLERS["elasticache"] = handle
