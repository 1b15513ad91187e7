"""A stack as CloudFormation has it, and what has to be done to bring it to its template: values only, no calls."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Action(enum.Enum):
    """What has to be done to a stack."""

    NONE = "unchanged"
    CREATE = "create"
    UPDATE = "update"
    RECREATE = "recreate"
    """It never got further than a failed creation: CloudFormation lets such a stack only be deleted."""


@dataclass(frozen=True, kw_only=True)
class ObservedStack:
    """A stack as CloudFormation has it."""

    name: str
    status: str
    stack_id: str = ""
    """Its ARN: what a stack is still known by when it is deleted."""
    template: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        """Whether an operation runs on it."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def is_settled(self) -> bool:
        """Whether it can be looked at and changed as it is: nothing runs, and no rollback got stuck."""
        return not self.is_busy and self.status != "UPDATE_ROLLBACK_FAILED"

    @property
    def was_made(self) -> bool:
        """Whether it got beyond its creation: there is something in it to go back to."""
        return self.status not in ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED")


@dataclass(frozen=True, kw_only=True)
class StackChange:
    """What `compare` decided for one stack, and why."""

    name: str
    action: Action
    reasons: tuple[str, ...] = ()


def compare(
    name: str,
    template: Mapping[str, Any],
    parameters: Mapping[str, str | None],
    tags: Mapping[str, str],
    observed: ObservedStack | None,
) -> StackChange:
    """Decide what brings the stack to `template` with `parameters` (None: a value that is not known yet)."""
    if observed is None or observed.status in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE"):
        return StackChange(name=name, action=Action.CREATE, reasons=("it does not exist",))
    if observed.status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"):
        return StackChange(name=name, action=Action.RECREATE, reasons=(f"its creation failed ({observed.status})",))
    reasons = []
    if template != observed.template:
        reasons.append("its template changed")
    declared = template.get("Parameters", {})
    for key in sorted(set(parameters) & set(declared)):
        value = parameters[key]
        if value is None or value != observed.parameters.get(key):
            reasons.append(f"{key} changed")
    if tags != observed.tags:
        reasons.append("its tags changed")
    return StackChange(name=name, action=Action.UPDATE if reasons else Action.NONE, reasons=tuple(reasons))
