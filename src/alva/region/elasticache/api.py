"""The ElastiCache API: MiniStack answers Describe calls; calls that would create or change nodes are refused."""

from __future__ import annotations

from typing import Any

from ministack import app as ministack_app
from ministack.services import elasticache

from alva.region import query_protocol
from alva.region.aws_error import AwsError
from alva.region.query_protocol import Response

REFUSED = frozenset({
    "CreateReplicationGroup", "ModifyReplicationGroup", "DeleteReplicationGroup", "IncreaseReplicaCount",
    "DecreaseReplicaCount", "CreateCacheCluster", "ModifyCacheCluster", "DeleteCacheCluster", "RebootCacheCluster",
    "CreateServerlessCache", "CreateSnapshot", "CopySnapshot", "TestFailover", "ModifyCacheParameterGroup",
    "ResetCacheParameterGroup", "CreateUser", "CreateUserGroup",
})  # fmt: skip


def install() -> None:
    """Refuse these operations before MiniStack handles them."""

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        action = query_protocol.read_form(body, query_params).get("Action", "")
        if action in REFUSED:
            error = AwsError(
                "InvalidAction", f"the local region does not have ElastiCache {action}: use CloudFormation"
            )
            return query_protocol.refuse(query_protocol.service_model("elasticache"), error)
        response: Response = await elasticache.handle_request(method, path, headers, body, query_params)
        return response

    ministack_app.SERVICE_HANDLERS["elasticache"] = handle
