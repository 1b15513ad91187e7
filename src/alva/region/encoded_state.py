"""Encodes large states as JSON, and keeps the text of their immutable parts.

Templates and stack events are never changed in place, so each is encoded once. The rest of a record is
encoded each time. The format is that of MiniStack's state files.
"""

from __future__ import annotations

import ast
import base64
import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ministack.core.responses import AccountRegionScopedDict, AccountScopedDict

FIXED_MEMBERS = frozenset({"_template", "_template_body", "_request", "_valued", "Changes"})
"""Members of stacks and change sets that are only replaced as a whole."""


_REGIONAL, _BYTES = "__account_region_scoped__", "__bytes__"
# The mark of each of MiniStack's kinds of scoped dictionaries -> the class, and the number of parts of a key's scope.
_SCOPED = {_REGIONAL: (AccountRegionScopedDict, 2), "__scoped__": (AccountScopedDict, 1)}


def encode(value: Any) -> str:
    """The JSON of a value, with scoped dictionaries, bytes, and dataclasses, which are objects of their fields."""
    return json.dumps(value, default=_encoded, separators=(",", ":"))


def decode(text: str | bytes) -> Any:
    """The value of which `encode` made the text."""
    return json.loads(text, object_hook=_decoded)


def _encoded(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return vars(value)
    for mark, (kind, _) in _SCOPED.items():
        if isinstance(value, kind):
            return {mark: True, "data": {_key(*key): each for key, each in value.to_dict().items()}}
    if isinstance(value, bytes | bytearray):
        return {_BYTES: base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _key(*scoped: Any) -> str:
    *scope, key = scoped
    return "\0".join([*scope, repr(key)])


def _decoded(value: dict[str, Any]) -> Any:
    for mark, (kind, parts) in _SCOPED.items():
        if mark in value:
            keys = ((*each.split("\0", parts), content) for each, content in value["data"].items())
            return kind.from_dict({(*scope, ast.literal_eval(key)): content for *scope, key, content in keys})
    return base64.b64decode(value[_BYTES]) if _BYTES in value else value


class Fragments:
    """The texts of immutable objects. `end_generation` drops those that were not requested since its last call."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, str]] = {}
        self._met: dict[int, tuple[object, str]] = {}

    def text_of(self, value: Any) -> str:
        """The JSON of an object that is not changed in place."""
        key = id(value)
        found = self._known.get(key)
        # The object is kept beside its text, so that no other object gets its id.
        if found is None:
            found = self._known[key] = (value, encode(value))
        self._met[key] = found
        return found[1]

    def end_generation(self) -> None:
        """Drop the objects that were not requested since the last call."""
        self._known, self._met = self._met, {}


class LargeStates:
    """The state of CloudFormation."""

    def __init__(self) -> None:
        self._stacks = Fragments()

    def cloudformation(self, tables: Mapping[str, AccountRegionScopedDict]) -> str:
        """The state of CloudFormation, with the tables of its `get_state`."""
        fragments = self._stacks

        def record(members: Mapping[str, Any]) -> str:
            return _object(
                (name, fragments.text_of(value) if name in FIXED_MEMBERS else encode(value))
                for name, value in members.items()
            )

        text = _object([
            ("stacks", _scoped(tables["stacks"], record)),
            ("stack_events", _scoped(tables["stack_events"], lambda each: _array(map(fragments.text_of, each)))),
            ("exports", encode(tables["exports"])),
            ("change_sets", _scoped(tables["change_sets"], record)),
        ])  # fmt: skip
        fragments.end_generation()
        return text


def _scoped(table: AccountRegionScopedDict, text_of: Callable[[Any], str]) -> str:
    keyed = ((_key(*key), text_of(value)) for key, value in table.all_items())
    return _object([(_REGIONAL, "true"), ("data", _object(keyed))])


def _object(members: Iterable[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in members) + "}"


def _array(items: Iterable[str]) -> str:
    return "[" + ",".join(items) + "]"
