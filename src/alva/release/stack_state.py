"""The observed state of a stack, and the action that brings it to its template. No calls."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alva.release.manifest import Manifest


class Action(enum.Enum):
    """The action that a stack needs."""

    NONE = "unchanged"
    CREATE = "create"
    UPDATE = "update"
    RECREATE = "recreate"
    """Its creation failed: CloudFormation only allows to delete it."""


@dataclass(frozen=True, kw_only=True)
class ObservedStack:
    """A stack as CloudFormation describes it."""

    name: str
    status: str
    stack_id: str = ""
    """Its ARN, which also identifies a deleted stack."""
    template: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        """Whether an operation is in progress."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def can_be_updated(self) -> bool:
        """Whether it can be changed: no operation is in progress, and no rollback is stuck."""
        return not self.is_busy and self.status != "UPDATE_ROLLBACK_FAILED"

    @property
    def was_made(self) -> bool:
        """Whether its creation succeeded: it has a former state to roll back to."""
        return self.status not in ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED")


@dataclass(frozen=True, kw_only=True)
class StackChange:
    """The result of `compare` for one stack."""

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
    """Return the action that brings the stack to `template` with `parameters` (None: a value that is not known yet)."""
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


def running_digests(manifest: Manifest, services_stack: ObservedStack | None) -> dict[str, str]:
    """Return service name -> digest of the services stack's last success."""
    if services_stack is None:
        return {}
    return {
        service.name: services_stack.parameters[service.image_parameter]
        for service in manifest.services
        if services_stack.parameters.get(service.image_parameter)
    }
