"""A stack while an operation works on it: what its template says, what is recorded, which exports are its own."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from ministack.services import cloudformation as records
from ministack.services.cloudformation import engine, handlers, stacks

Stack = dict[str, Any]
Operation = dict[str, Any]
Step = dict[str, Any]

STACK_TYPE = "AWS::CloudFormation::Stack"
RETAINING_POLICIES = ("Retain", "RetainExceptOnCreate")


def stacks_changed() -> None:
    """Called after every step of an operation; `extension.install` has the state saved then."""


class Context:
    """A stack with one of its templates: resolves what the template says, records what happens."""

    def __init__(self, stack: Stack, template: dict[str, Any], parameters: dict[str, Any]) -> None:
        self.stack = stack
        self.name: str = stack["StackName"]
        self.id: str = stack["StackId"]
        self.template = template
        self.parameters = parameters
        self.mappings = template.get("Mappings") or {}
        self.conditions = engine._evaluate_conditions(template, parameters)
        self.definitions: dict[str, dict[str, Any]] = {
            name: definition
            for name, definition in (template.get("Resources") or {}).items()
            if not definition.get("Condition") or self.conditions.get(definition["Condition"], True)
        }

    def dependencies(self, names: Iterable[str] | None = None) -> dict[str, set[str]]:
        """What each resource needs before it, among `names`. Raises ValueError for a circle."""
        engine._topological_sort(self.template.get("Resources") or {}, self.conditions)
        wanted = set(self.definitions if names is None else names)
        return {
            name: engine._extract_deps(self.definitions[name], set(self.definitions)) & wanted
            if name in self.definitions
            else set()
            for name in wanted
        }

    def resolve(self, value: Any, resources: Mapping[str, Any]) -> Any:
        return engine._resolve_refs(
            copy.deepcopy(value), resources, self.parameters, self.conditions, self.mappings, self.name, self.id
        )

    def policy(self, logical_id: str, attribute: str, resources: Mapping[str, Any]) -> str:
        """DeletionPolicy or UpdateReplacePolicy of a resource, `Delete` by default."""
        definition = (self.template.get("Resources") or {}).get(logical_id)
        return str(
            stacks._resource_policy(
                definition, attribute, resources, self.parameters, self.conditions, self.mappings, self.name, self.id
            )
        )

    def with_tags(self, resource_type: str, logical_id: str, properties: dict[str, Any], tags: Any) -> dict[str, Any]:
        """The properties with the stack's tags and CloudFormation's own added, as the resource gets them."""
        tagged = stacks._with_stack_tags(resource_type, properties, tags, self.name, self.id, logical_id)
        return dict(tagged)

    def event(self, logical_id: str, resource_type: str, status: str, reason: str = "", physical_id: str = "") -> None:
        stacks._add_event(self.id, self.name, logical_id, resource_type, status, reason, physical_id)
        stacks_changed()

    def stack_event(self, status: str, reason: str = "") -> None:
        """Set the stack's status and record the event of it."""
        self.stack["StackStatus"] = status
        self.stack["StackStatusReason"] = reason
        self.event(self.name, STACK_TYPE, status, reason, self.id)


def importing_stacks(export_name: str, exporting_stack: str) -> list[str]:
    """The names of the other stacks that import an export."""
    return sorted(
        name
        for name, stack in records._stacks.items()
        if name != exporting_stack
        and stack.get("StackStatus") not in ("DELETE_COMPLETE", "REVIEW_IN_PROGRESS")
        and export_name in handlers._imported_export_names(stack, name)
    )


def replace_exports(stack_id: str, exports: dict[str, Any]) -> None:
    for name in [name for name, export in records._exports.items() if export["StackId"] == stack_id]:
        del records._exports[name]
    records._exports.update(exports)


def exports_of(stack: Stack) -> dict[str, Any]:
    return {
        output["ExportName"]: {
            "StackId": stack["StackId"],
            "Name": output["ExportName"],
            "Value": output["OutputValue"],
        }
        for output in stack.get("Outputs") or []
        if output.get("ExportName")
    }
