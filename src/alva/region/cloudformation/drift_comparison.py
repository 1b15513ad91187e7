"""Compares the properties that a template sets with the actual ones. Pure.

The form of the differences: https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_PropertyDifference.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_ABSENT = object()


def differences(expected: Any, actual: Any, path: str = "") -> list[dict[str, str]]:
    """The PropertyDifferences between two values. The order of a list and the type of a scalar do not matter."""
    if expected is _ABSENT or actual is _ABSENT:
        kind = "ADD" if expected is _ABSENT else "REMOVE"
    elif isinstance(expected, dict) and isinstance(actual, dict):
        names = [*expected, *(name for name in actual if name not in expected)]
        members = ((name, expected.get(name, _ABSENT), actual.get(name, _ABSENT)) for name in names)
        return [each for name, one, other in members for each in differences(one, other, f"{path}/{name}")]
    elif isinstance(expected, list) and isinstance(actual, list):
        return [each for n, one, other in _pairs(expected, actual) for each in differences(one, other, f"{path}/{n}")]
    elif _text(expected) == _text(actual):
        return []
    else:
        kind = "NOT_EQUAL"
    return [
        {
            "PropertyPath": path,
            "ExpectedValue": _text(expected),
            "ActualValue": _text(actual),
            "DifferenceType": kind,
        }
    ]


def _pairs(expected: list[Any], actual: list[Any]) -> Iterator[tuple[int, Any, Any]]:
    """The elements that are not equal, each with its index: tags by their key, others by their position."""
    added, removed = dict(enumerate(actual)), dict(enumerate(expected))
    for index, element in enumerate(expected):
        if (same := next((n for n, other in added.items() if not differences(element, other)), None)) is not None:
            del added[same], removed[index]
    for index, element in removed.items():
        key = _key(element)
        partner = index if key is None else next((n for n, other in added.items() if _key(other) == key), -1)
        yield index, element, added.pop(partner, _ABSENT)
    for index, element in added.items():
        yield index, _ABSENT, element


def _key(element: Any) -> Any:
    return element.get("Key") if isinstance(element, dict) else None


def _text(value: Any) -> str:
    if value is None or value is _ABSENT:
        return "null"
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True)
    return str(value).lower() if isinstance(value, bool) else str(value)
