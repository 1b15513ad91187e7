"""A resource's properties as the input of the action that makes the resource."""

from __future__ import annotations

from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from alva.region.cloudformation.handler_failure import HandlerFailed


def from_properties(value: Any, shape: Shape) -> Any:
    """CloudFormation's properties (PascalCase, numbers and booleans often as strings) as an action's input.

    Raises HandlerFailed for a property that the shape does not have.
    """
    if isinstance(shape, StructureShape):
        members = {name.lower(): (name, member) for name, member in shape.members.items()}
        result = {}
        for key, item in value.items():
            if key.lower() not in members:
                raise HandlerFailed(
                    f"Properties validation failed: extraneous key [{key}] is not permitted", "InvalidRequest"
                )
            name, member = members[key.lower()]
            result[name] = from_properties(item, member)
        return result
    if isinstance(shape, ListShape):
        return [from_properties(item, shape.member) for item in value]
    if isinstance(shape, MapShape):
        return {key: from_properties(item, shape.value) for key, item in value.items()}
    if shape.type_name in ("integer", "long"):
        return int(value)
    if shape.type_name in ("float", "double"):
        return float(value)
    if shape.type_name == "boolean":
        return value if isinstance(value, bool) else str(value).lower() == "true"
    if shape.type_name == "string":
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value
