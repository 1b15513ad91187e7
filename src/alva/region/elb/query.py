"""The Query protocol's parameters (`Actions.member.1.Type=forward`) and the structures that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

Parameters = dict[str, list[str]]


def flatten(value: Any, prefix: str = "") -> Parameters:
    """A structure as Query parameters; booleans become true and false, None and empty lists nothing."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        result: Parameters = {}
        for key, item in value.items():
            result |= flatten(item, f"{prefix}.{key}" if prefix else key)
        return result
    if isinstance(value, list | tuple):
        result = {}
        for index, item in enumerate(value, start=1):
            result |= flatten(item, f"{prefix}.member.{index}")
        return result
    return {prefix: [str(value).lower() if isinstance(value, bool) else str(value)]}


def members(parameters: Mapping[str, Any], prefix: str) -> list[Any]:
    """The list `prefix`, its members strings or dictionaries, in the order of their numbers."""
    value = _unflatten(parameters, f"{prefix}.")
    return value if isinstance(value, list) else []


def single(parameters: Mapping[str, Any], key: str, default: str = "") -> str:
    """One plain parameter."""
    value = parameters.get(key, default)
    return str(value[0]) if isinstance(value, list) and value else str(value or default)


def attributes(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The `Attributes` of a Modify...Attributes call."""
    return {item["Key"]: item.get("Value", "") for item in members(parameters, "Attributes")}


def to_xml(value: Any) -> str:
    """A structure in the form of the protocol's answers."""
    if isinstance(value, Mapping):
        return "".join(f"<{key}>{to_xml(item)}</{key}>" for key, item in value.items() if item is not None)
    if isinstance(value, list | tuple):
        return "".join(f"<member>{to_xml(item)}</member>" for item in value)
    return str(value).lower() if isinstance(value, bool) else escape(str(value))


def _unflatten(parameters: Mapping[str, Any], prefix: str) -> Any:
    tree: dict[str, Any] = {}
    for key in parameters:
        if key.startswith(prefix):
            node = tree
            *path, last = key[len(prefix) :].split(".")
            for part in path:
                node = node.setdefault(part, {})
            node[last] = single(parameters, key)
    return _with_lists(tree)


def _with_lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if set(node) == {"member"} and isinstance(node["member"], dict):
        numbered = sorted(node["member"].items(), key=lambda item: int(item[0]))
        return [_with_lists(item) for _, item in numbered]
    return {key: _with_lists(item) for key, item in node.items()}
