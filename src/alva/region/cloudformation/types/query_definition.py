"""AWS::Logs::QueryDefinition: a saved query of CloudWatch Logs Insights."""

from __future__ import annotations

from typing import Any

from alva.region import query_definitions
from alva.region.cloudformation import registry
from alva.region.cloudformation.api import HandlerFailed
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned


def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return _put({}, properties)


def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return _put({"queryDefinitionId": physical_id}, new)


def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    query_definitions.delete(physical_id)


def _put(request: dict[str, Any], properties: Properties) -> Provisioned:
    try:
        definition_id = query_definitions.put(
            {
                **request,
                "name": properties.get("Name"),
                "queryString": properties.get("QueryString"),
                "logGroupNames": properties.get("LogGroupNames"),
            }
        )
    except ValueError as error:
        raise HandlerFailed(str(error), "InvalidRequest") from error
    except KeyError as error:
        raise HandlerFailed(f"no query definition {error}", "NotFound") from error
    return definition_id, {"QueryDefinitionId": definition_id}


def register() -> None:
    registry.register("AWS::Logs::QueryDefinition", Handlers(create=create, update=update, delete=delete))
