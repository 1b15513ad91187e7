"""AWS::Logs::QueryDefinition: a saved query of CloudWatch Logs Insights."""

from __future__ import annotations

from typing import Any

from alva.region.cloudformation.handler_failure import HandlerFailed, call
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry


async def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return await _put({}, properties)


async def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return await _put({"queryDefinitionId": physical_id}, new)


async def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    try:
        await call("logs", "DeleteQueryDefinition", {"queryDefinitionId": physical_id})
    except HandlerFailed as error:
        if error.code != "NotFound":
            raise


async def _put(request: dict[str, Any], properties: Properties) -> Provisioned:
    members = {
        "name": properties.get("Name"),
        "queryString": properties.get("QueryString"),
        "logGroupNames": properties.get("LogGroupNames"),
    }
    answer = await call("logs", "PutQueryDefinition", {**request, **members})
    return answer["queryDefinitionId"], {"QueryDefinitionId": answer["queryDefinitionId"]}


def register(registry: Registry) -> None:
    registry.register("AWS::Logs::QueryDefinition", Handlers(create=create, update=update, delete=delete))
