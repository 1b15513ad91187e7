"""CloudWatch Logs' saved queries, which MiniStack lacks: kept, listed, deleted. Running one is StartQuery's."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from ministack import app as ministack_app

from alva.region import service_table
from alva.region.service_table import Response

_definitions: dict[str, dict[str, Any]] = {}


def put(request: dict[str, Any]) -> str:
    """Create or change a query definition (PutQueryDefinition) and return its id.

    Raises KeyError for an id that does not exist and ValueError for a missing name or query.
    """
    if not request.get("name") or not request.get("queryString"):
        raise ValueError("name and queryString are required")
    definition_id = request.get("queryDefinitionId") or str(uuid.uuid4())
    if request.get("queryDefinitionId") and definition_id not in _definitions:
        raise KeyError(definition_id)
    _definitions[definition_id] = {
        "queryDefinitionId": definition_id,
        "name": request["name"],
        "queryString": request["queryString"],
        "logGroupNames": list(request.get("logGroupNames") or []),
        "lastModified": int(time.time() * 1000),
    }
    return definition_id


def delete(definition_id: str) -> bool:
    """Forget a definition; whether it was there."""
    return _definitions.pop(definition_id, None) is not None


def install() -> None:
    """Answer the three operations of CloudWatch Logs; the others stay MiniStack's."""
    theirs = ministack_app.SERVICE_HANDLERS["logs"]

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        if action not in ("PutQueryDefinition", "DescribeQueryDefinitions", "DeleteQueryDefinition"):
            response: Response = await theirs(method, path, headers, body, query_params)
            return response
        request = json.loads(body or b"{}")
        try:
            if action == "PutQueryDefinition":
                return _answer({"queryDefinitionId": put(request)})
            if action == "DeleteQueryDefinition":
                if not delete(request.get("queryDefinitionId", "")):
                    raise KeyError(request.get("queryDefinitionId", ""))
                return _answer({"success": True})
        except KeyError as error:
            return _answer({"__type": "ResourceNotFoundException", "message": f"no query definition {error}"}, 400)
        except ValueError as error:
            return _answer({"__type": "InvalidParameterException", "message": str(error)}, 400)
        prefix = request.get("queryDefinitionNamePrefix", "")
        return _answer(
            {"queryDefinitions": [each for each in _definitions.values() if each["name"].startswith(prefix)]}
        )

    ministack_app.SERVICE_HANDLERS["logs"] = handle
    service_table.add_state("query_definitions", _State())


class _State:
    def get_state(self) -> dict[str, Any]:
        return dict(_definitions)

    def load_persisted_state(self, data: dict[str, Any]) -> None:
        _definitions.update(data)

    def reset(self) -> None:
        _definitions.clear()


def _answer(contents: dict[str, Any], status: int = 200) -> Response:
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(contents).encode()
