"""The properties in a resource type's schema: their names, the required ones, and those that only a creation can set.

`tools/resource_schemas.py` makes `schemas.json` from AWS's own registry of resource types.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("schemas.json")


@functools.cache
def all_schemas() -> dict[str, dict[str, Any]]:
    """Every known type's schema."""
    schemas: dict[str, dict[str, Any]] = json.loads(FILE.read_text())
    return schemas


def create_only(type_name: str) -> tuple[str, ...]:
    """The properties whose change replaces a resource of this type."""
    return tuple(all_schemas().get(type_name, {}).get("create_only", ()))


def problems(type_name: str, properties: dict[str, Any]) -> list[str]:
    """The problems of a resource's properties, in the words of CloudFormation's model validation.

    A type without a schema has none. Only names are checked, not values.
    """
    schema = all_schemas().get(type_name)
    if schema is None:
        return []
    found = [f"#: extraneous key [{name}] is not permitted" for name in schema["read_only"] if name in properties]
    return found + list(_problems(schema, properties, "#"))


def _problems(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    if "items" in schema and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _problems(schema["items"], item, f"{path}/{index}")
    elif "properties" in schema and isinstance(value, dict):
        for name in schema["required"]:
            if name not in value:
                yield f"{path}: required key [{name}] not found"
        for name, item in value.items():
            if name not in schema["properties"]:
                yield f"{path}: extraneous key [{name}] is not permitted"
            else:
                yield from _problems(schema["properties"][name], item, f"{path}/{name}")
