"""The records of stacks, their events, exports and change sets."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

from ministack.core.responses import AccountRegionScopedDict

from alva.region.cloudformation.errors import no_such_stack

Stack = dict[str, Any]
ChangeSet = dict[str, Any]

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


def description_of(stack: Stack) -> Stack:
    """A copy of the members that an operation can change."""
    return {key: copy.deepcopy(stack[key]) for key in DESCRIBING if key in stack}


class StackRecords:
    """The records in the account and region of the running request. The region's persistence saves all of them."""

    def __init__(self) -> None:
        names = ("stacks", "stack_events", "exports", "change_sets")
        self._tables = {name: AccountRegionScopedDict() for name in names}
        self.stacks: MutableMapping[str, Stack] = self._tables["stacks"]
        """By name; a deleted stack whose name was used again, by its id."""
        self.events: MutableMapping[str, list[dict[str, Any]]] = self._tables["stack_events"]
        """The events of each stack, by its id, the oldest first."""
        self.exports: MutableMapping[str, dict[str, Any]] = self._tables["exports"]
        self.change_sets: MutableMapping[str, ChangeSet] = self._tables["change_sets"]
        """By id."""

    def all_stacks(self) -> Iterator[Stack]:
        """Every stack's record, also those of deleted ones."""
        yield from list(self.stacks.values())

    def find(self, name_or_id: str) -> Stack | None:
        """The stack of this name or id. A deleted stack is found only by its id."""
        stack = self.stacks.get(name_or_id)
        if stack is not None and (stack["StackId"] == name_or_id or stack["StackStatus"] != "DELETE_COMPLETE"):
            return stack
        return next((each for each in self.all_stacks() if each["StackId"] == name_or_id), None)

    def find_existing(self, name_or_id: str) -> Stack | None:
        """As `find`, but None for a deleted stack."""
        stack = self.find(name_or_id)
        return stack if stack and stack["StackStatus"] != "DELETE_COMPLETE" else None

    def existing(self, name_or_id: str) -> Stack:
        """As `find_existing`. Raises Refused where there is none."""
        stack = self.find_existing(name_or_id)
        if stack is None:
            raise no_such_stack(name_or_id)
        return stack

    def add(self, stack: Stack) -> None:
        """Record a new stack. A deleted one of the same name is kept under its id; the oldest of these are dropped."""
        former = self.stacks.pop(stack["StackName"], None)
        if former is not None:
            self.stacks[former["StackId"]] = former
        self.stacks[stack["StackName"]] = stack
        self.events[stack["StackId"]] = []
        deleted = [each for each in self.all_stacks() if each["StackStatus"] == "DELETE_COMPLETE"]
        for each in sorted(deleted, key=lambda each: str(each.get("DeletionTime", "")))[:-MOST_DELETED_STACKS]:
            self.forget(each)

    def forget(self, stack: Stack) -> None:
        """Remove a stack with its events and change sets."""
        for key in [key for key, each in self.stacks.items() if each["StackId"] == stack["StackId"]]:
            del self.stacks[key]
        self.events.pop(stack["StackId"], None)
        for key in [key for key, each in self.change_sets.items() if each["StackId"] == stack["StackId"]]:
            del self.change_sets[key]

    def find_change_set(self, name_or_id: str, stack: Stack | None) -> ChangeSet | None:
        """The change set of this id; or the newest of this name, of the stack."""
        if name_or_id in self.change_sets:
            return self.change_sets[name_or_id]
        of_stack = self.change_sets_of(stack) if stack is not None else []
        return next((each for each in reversed(of_stack) if each["ChangeSetName"] == name_or_id), None)

    def change_sets_of(self, stack: Stack) -> list[ChangeSet]:
        """The change sets of a stack, the oldest first."""
        return [each for each in self.change_sets.values() if each["StackId"] == stack["StackId"]]

    def replace_exports(self, stack_id: str, exports: Mapping[str, Any]) -> None:
        """Replace the exports of a stack with these."""
        for name in [name for name, export in self.exports.items() if export["StackId"] == stack_id]:
            del self.exports[name]
        self.exports.update(exports)

    def scopes(self) -> set[tuple[str, str]]:
        """The accounts and regions that have stacks."""
        return {(account_id, region) for (account_id, region, _), _ in self._tables["stacks"].all_items()}

    def get_state(self) -> dict[str, Any]:
        """The records of every account and region."""
        return dict(self._tables)

    def load_persisted_state(self, data: dict[str, Any]) -> None:
        """Add the records of a saved state."""
        for name, table in self._tables.items():
            table.update(data.get(name) or {})

    def reset(self) -> None:
        """Delete all records."""
        for table in self._tables.values():
            table.clear()
