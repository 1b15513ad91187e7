"""CloudWatch Logs' saved queries, which MiniStack lacks: create, list and delete them. StartQuery runs a query."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from alva.region.aws_error import AwsError

Json = dict[str, Any]
Forward = Callable[[str, Json], Awaitable[Json]]


class QueryDefinitions:
    """The saved queries, by id."""

    def __init__(self) -> None:
        self._definitions: dict[str, Json] = {}

    @property
    def operations(self) -> Mapping[str, Callable[[Json, Forward], Awaitable[Json]]]:
        """The actions of CloudWatch Logs that this handles."""
        return {
            "DeleteQueryDefinition": self.delete,
            "DescribeQueryDefinitions": self.describe,
            "PutQueryDefinition": self.put,
        }

    async def put(self, request: Json, _forward: Forward) -> Json:
        """PutQueryDefinition: create or change a definition."""
        definition_id = request.get("queryDefinitionId") or str(uuid.uuid4())
        if request.get("queryDefinitionId"):
            self._require(definition_id)
        self._definitions[definition_id] = {
            "queryDefinitionId": definition_id,
            "name": request["name"],
            "queryString": request["queryString"],
            "logGroupNames": list(request.get("logGroupNames") or []),
            "lastModified": int(time.time() * 1000),
        }
        return {"queryDefinitionId": definition_id}

    async def delete(self, request: Json, _forward: Forward) -> Json:
        """DeleteQueryDefinition."""
        self._require(request["queryDefinitionId"])
        del self._definitions[request["queryDefinitionId"]]
        return {"success": True}

    async def describe(self, request: Json, _forward: Forward) -> Json:
        """DescribeQueryDefinitions, in one page."""
        prefix = request.get("queryDefinitionNamePrefix", "")
        return {"queryDefinitions": [each for each in self._definitions.values() if each["name"].startswith(prefix)]}

    def _require(self, definition_id: str) -> None:
        if definition_id not in self._definitions:
            raise AwsError("ResourceNotFoundException", f"no query definition '{definition_id}'")

    def get_state(self) -> Json:
        return self._definitions

    def load_persisted_state(self, data: Json) -> None:
        self._definitions.update(data)

    def reset(self) -> None:
        self._definitions.clear()
