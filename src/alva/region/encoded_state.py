"""Encodes large states as JSON, and keeps the text of their immutable parts.

Templates and stack events are never changed in place, so each is encoded once. The rest of a record is
encoded each time. The format is that of MiniStack's encoder, so its decoder reads it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ministack.core import persistence as codec
from ministack.core.responses import AccountRegionScopedDict
from ministack.services import cloudformation

FIXED_MEMBERS = frozenset({"_template", "_template_body", "_request", "_valued", "Changes"})
"""Members of stacks and change sets that are only replaced as a whole."""


def encode(value: Any) -> str:
    """The JSON of a value, with MiniStack's scoped dictionaries."""
    return json.dumps(value, default=codec._json_default, separators=(",", ":"))


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

    def cloudformation(self) -> str:
        """The state of CloudFormation, as from its `get_state`."""
        fragments = self._stacks

        def record(members: Mapping[str, Any]) -> str:
            return _object(
                (name, fragments.text_of(value) if name in FIXED_MEMBERS else encode(value))
                for name, value in members.items()
            )

        text = _object([
            ("stacks", _scoped(cloudformation._stacks, record)),
            ("stack_events", _scoped(cloudformation._stack_events, lambda each: _array(map(fragments.text_of, each)))),
            ("exports", encode(cloudformation._exports)),
            ("change_sets", _scoped(cloudformation._change_sets, record)),
        ])  # fmt: skip
        fragments.end_generation()
        return text


def _scoped(table: AccountRegionScopedDict, text_of: Callable[[Any], str]) -> str:
    keyed = ((f"{account}\0{region}\0{key!r}", text_of(value)) for (account, region, key), value in table.all_items())
    return _object([("__account_region_scoped__", "true"), ("data", _object(keyed))])


def _object(members: Iterable[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in members) + "}"


def _array(items: Iterable[str]) -> str:
    return "[" + ",".join(items) + "]"
