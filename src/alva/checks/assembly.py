"""A synthesised environment as a graph: all resources of all stacks, with references resolved across stacks.

Reads only `.alva/cdk.out/ENVIRONMENT/`: the templates and `alva.json`. Unknown input is an error, never skipped,
because a check of a partial template proves nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from alva.errors import AlvaError

PSEUDO_PARAMETERS = {
    "AWS::AccountId": "${AccountId}",
    "AWS::Partition": "aws",
    "AWS::Region": "${Region}",
    "AWS::StackName": "${StackName}",
    "AWS::URLSuffix": "amazonaws.com",
}


@dataclass(frozen=True)
class Reference:
    """The value of `Ref` (`attribute` is empty) or `Fn::GetAtt` of a resource in any stack."""

    stack: str
    logical_id: str
    attribute: str = ""

    def __str__(self) -> str:
        return f"${{{self.stack}.{self.logical_id}{'.' if self.attribute else ''}{self.attribute}}}"


@dataclass(frozen=True)
class Parameter:
    """The value of a stack's parameter."""

    stack: str
    name: str

    def __str__(self) -> str:
        return f"${{{self.stack}:{self.name}}}"


@dataclass(frozen=True)
class Resource:
    """A resource with resolved properties: without intrinsic functions, and with `Reference`s."""

    stack: str
    logical_id: str
    type: str
    properties: Mapping[str, Any]
    depends_on: frozenset[str]

    def __str__(self) -> str:
        return f"{self.stack}/{self.logical_id}"

    @property
    def reference(self) -> Reference:
        return Reference(self.stack, self.logical_id)


@dataclass(frozen=True)
class Assembly:
    """A synthesised environment. `templates` are by stack name, `manifest` is alva.json."""

    manifest: Mapping[str, Any]
    templates: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the folder of the synthesis. Raises AlvaError when a file is missing or not JSON."""
        try:
            manifest = json.loads((folder / "alva.json").read_text())
            templates = {
                stack["name"]: json.loads((folder / stack["template"]).read_text()) for stack in manifest["stacks"]
            }
        except (OSError, ValueError, KeyError) as error:
            raise AlvaError(
                f"cannot read the templates in {folder}", evidence=[str(error)], next_step="./alva synth"
            ) from error
        return cls(manifest, templates)

    @cached_property
    def resources(self) -> Mapping[Reference, Resource]:
        """All resources of all stacks, by their `Ref`."""
        found = (
            Resource(
                stack,
                logical_id,
                each["Type"],
                self.resolve(each.get("Properties", {}), stack),
                frozenset([depends] if isinstance(depends := each.get("DependsOn", []), str) else depends),
            )
            for stack, template in self.templates.items()
            for logical_id, each in template["Resources"].items()
        )
        return {resource.reference: resource for resource in found}

    def of_type(self, resource_type: str) -> Iterator[Resource]:
        """Yield the resources of a type: `of_type("ECS::Service")`."""
        return (each for each in self.resources.values() if each.type == f"AWS::{resource_type}")

    def target(self, value: object) -> Resource | None:
        """Return the resource of a reference, whatever its attribute; None for other values."""
        if not isinstance(value, Reference):
            return None
        return self.resources.get(Reference(value.stack, value.logical_id))

    @cached_property
    def exports(self) -> Mapping[str, tuple[str, Any]]:
        """The exports of the templates: name -> stack and unresolved value."""
        return {
            str(output["Export"]["Name"]): (stack, output["Value"])
            for stack, template in self.templates.items()
            for output in template.get("Outputs", {}).values()
            if "Export" in output
        }

    def resolve(self, value: Any, stack: str) -> Any:
        """Resolve the intrinsic functions of a value. Raises AlvaError for an unknown one."""
        if isinstance(value, list):
            return [self.resolve(each, stack) for each in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (name, argument), *_ = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._function(name, argument, stack)
        return {key: self.resolve(each, stack) for key, each in value.items()}

    def _function(self, name: str, argument: Any, stack: str) -> Any:
        template = self.templates[stack]
        if name == "Ref":
            if argument in PSEUDO_PARAMETERS:
                return PSEUDO_PARAMETERS[argument]
            if argument in template.get("Parameters", {}):
                return Parameter(stack, argument)
            if argument in template["Resources"]:
                return Reference(stack, argument)
        elif name == "Fn::GetAtt":
            logical_id, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
            if logical_id in template["Resources"]:
                return Reference(stack, logical_id, attribute)
        elif name == "Fn::ImportValue":
            if argument in self.exports:
                exporter, exported = self.exports[argument]
                return self.resolve(exported, exporter)
        elif name == "Fn::Join":
            separator, parts = argument
            return separator.join(str(self.resolve(part, stack)) for part in parts)
        elif name == "Fn::Base64":
            return self.resolve(argument, stack)
        raise AlvaError(
            f"cannot check stack {stack}: {name} of {argument!r} refers to something unknown",
            next_step="add it to src/alva/checks/assembly.py, or correct the template",
        )
