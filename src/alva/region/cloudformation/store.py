"""The records of stacks, their events, exports and change sets, by account and region of the running request.

The region's persistence saves the module's state.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from typing import Any

from ministack.core.responses import AccountRegionScopedDict

Stack = dict[str, Any]
ChangeSet = dict[str, Any]

_tables = {name: AccountRegionScopedDict() for name in ("stacks", "stack_events", "exports", "change_sets")}
stacks: MutableMapping[str, Stack] = _tables["stacks"]
"""By name; a deleted stack whose name was used again, by its id."""
events: MutableMapping[str, list[dict[str, Any]]] = _tables["stack_events"]
"""The events of each stack, by its id, the oldest first."""
exports: MutableMapping[str, dict[str, Any]] = _tables["exports"]
change_sets: MutableMapping[str, ChangeSet] = _tables["change_sets"]
"""By id."""

# AWS keeps deleted stacks for 90 days; the region keeps this many.
MOST_DELETED_STACKS = 100
# Members of a stack's record that an operation changes and its rollback restores.
DESCRIBING = (
    "_resources", "_template", "_template_body", "_resolved_params", "_conditions", "Description", "Capabilities",
    "Parameters", "Tags", "Outputs",
)  # fmt: skip


def now() -> str:
    """The time as records hold it: ISO 8601 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def all_stacks() -> Iterator[Stack]:
    """Every stack's record, also those of deleted ones."""
    yield from list(stacks.values())


def find(name_or_id: str) -> Stack | None:
    """The stack of this name or id. A deleted stack is found only by its id."""
    stack = stacks.get(name_or_id)
    if stack is not None and (stack["StackId"] == name_or_id or stack["StackStatus"] != "DELETE_COMPLETE"):
        return stack
    return next((each for each in all_stacks() if each["StackId"] == name_or_id), None)


def find_existing(name_or_id: str) -> Stack | None:
    """As `find`, but None for a deleted stack."""
    stack = find(name_or_id)
    return stack if stack and stack["StackStatus"] != "DELETE_COMPLETE" else None


def add(stack: Stack) -> None:
    """Record a new stack. A deleted stack of the same name is kept under its id; the oldest of these are dropped."""
    former = stacks.pop(stack["StackName"], None)
    if former is not None:
        stacks[former["StackId"]] = former
    stacks[stack["StackName"]] = stack
    events[stack["StackId"]] = []
    deleted = [each for each in all_stacks() if each["StackStatus"] == "DELETE_COMPLETE"]
    for each in sorted(deleted, key=lambda each: str(each.get("DeletionTime", "")))[:-MOST_DELETED_STACKS]:
        forget(each)


def forget(stack: Stack) -> None:
    """Remove a stack with its events and change sets."""
    for key in [key for key, each in stacks.items() if each["StackId"] == stack["StackId"]]:
        del stacks[key]
    events.pop(stack["StackId"], None)
    for key in [key for key, each in change_sets.items() if each["StackId"] == stack["StackId"]]:
        del change_sets[key]


def description_of(stack: Stack) -> Stack:
    """A copy of the members that an operation can change."""
    return {key: copy.deepcopy(stack[key]) for key in DESCRIBING if key in stack}


def find_change_set(name_or_id: str, stack: Stack | None) -> ChangeSet | None:
    """The change set of this id; or the newest of this name, of the stack."""
    if name_or_id in change_sets:
        return change_sets[name_or_id]
    of_stack = [each for each in change_sets.values() if stack is not None and each["StackId"] == stack["StackId"]]
    return next((each for each in reversed(of_stack) if each["ChangeSetName"] == name_or_id), None)


def scopes() -> set[tuple[str, str]]:
    """The accounts and regions that have stacks."""
    return {(account_id, region) for (account_id, region, _), _ in _tables["stacks"].all_items()}


def get_state() -> dict[str, Any]:
    """The records of every account and region."""
    return dict(_tables)


def load_persisted_state(data: dict[str, Any]) -> None:
    """Add the records of a saved state."""
    for name, table in _tables.items():
        table.update(data.get(name) or {})


def reset() -> None:
    """Delete all records."""
    for table in _tables.values():
        table.clear()
