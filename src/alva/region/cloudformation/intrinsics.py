"""Evaluates a template's intrinsic functions: `Ref`, `Fn::Sub`, conditions and the others.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html
"""

from __future__ import annotations

import base64
import ipaddress
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from alva.region.cloudformation import schemas

Json = dict[str, Any]

NO_VALUE = object()
"""The value of `Ref: AWS::NoValue`: the property or list item with it is left out."""
KNOWN_AFTER_APPLY = "{{changeSet:KNOWN_AFTER_APPLY}}"
"""What a change set shows for a value that exists only after its execution."""

CONDITION_FUNCTIONS = ("Fn::And", "Fn::Or", "Fn::Not", "Fn::Equals", "Condition")
SPLIT_REFUSED = (
    "Template error: every Fn::Split object requires two parameters, (1) a string delimiter and (2) a string to be "
    "split or a function that returns a string to be split."
)
_VARIABLE = re.compile(r"\$\{([^}]+)\}")


class TemplateError(ValueError):
    """A template that CloudFormation refuses; the text is AWS's message."""


def text(value: Any) -> str:
    """A scalar as CloudFormation writes it: `true` for a YAML boolean, digits for a number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def is_list_type(parameter_type: str) -> bool:
    """Whether `Ref` of a parameter of this type returns a list."""
    if parameter_type.startswith("AWS::SSM::Parameter::Value<"):
        parameter_type = parameter_type.removeprefix("AWS::SSM::Parameter::Value<")[:-1]
    return parameter_type == "CommaDelimitedList" or parameter_type.startswith("List<")


def function_of(value: Any) -> tuple[str, Any]:
    """The name and the argument of an intrinsic function; ("", value) for any other value."""
    if isinstance(value, dict) and len(value) == 1:
        name, argument = next(iter(value.items()))
        # A property can be named Condition too. A reference to a condition has a string as its value.
        if name == "Ref" or str(name).startswith("Fn::") or (name == "Condition" and isinstance(argument, str)):
            return str(name), argument
    return "", value


def get_att_parts(argument: Any) -> tuple[str, Any]:
    """The resource and the attribute of `Fn::GetAtt`; the attribute may be a function. Raises TemplateError."""
    parts = argument.split(".", 1) if isinstance(argument, str) else argument
    if not isinstance(parts, list) or len(parts) != 2 or not all(parts) or not isinstance(parts[0], str):
        raise TemplateError(
            "Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name and the "
            "resource attribute"
        )
    return parts[0], parts[1]


def sub_variables(argument: Any) -> tuple[str, list[str], Json]:
    """The text of `Fn::Sub`, the variables in it that its own map does not define, and the map."""
    pattern, own = [*argument, {}][:2] if isinstance(argument, list) and argument else (argument, {})
    own = own if isinstance(own, dict) else {}
    names = [name for name in _VARIABLE.findall(text(pattern)) if not name.startswith("!") and name not in own]
    return text(pattern), names, own


def references(value: Any) -> Iterator[tuple[str, str | None]]:
    """The names that a value refers to, each with the attribute, or None for a `Ref`."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for key, argument in value.items():
            if key == "Ref" and isinstance(argument, str):
                yield argument, None
            elif key == "Fn::GetAtt":
                try:
                    name, attribute = get_att_parts(argument)
                except TemplateError:
                    continue
                yield name, attribute if isinstance(attribute, str) else ""
                yield from references(attribute)
            elif key == "Fn::Sub":
                _, names, own = sub_variables(argument)
                for name in names:
                    logical_id, _, attribute = name.partition(".")
                    yield logical_id, attribute or None
                yield from references(list(own.values()))
            else:
                yield from references(argument)


@dataclass(frozen=True)
class Scope:
    """The values of the names in a template."""

    stack_name: str
    stack_id: str
    region: str
    account_id: str
    parameters: Mapping[str, Json] = field(default_factory=dict)
    """The resolved parameters, by name: {Value, Type, NoEcho}."""
    mappings: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, bool] = field(default_factory=dict)
    resources: Mapping[str, Json] = field(default_factory=dict)
    """The records of the resources, by logical id."""
    export: Callable[[str], str] | None = None
    """The value of another stack's export. Raises TemplateError where there is none."""
    unknown: Callable[[str], str] | None = None
    """Returns the placeholder of a missing resource (`Topic`) or attribute (`Topic.Name`). If unset, that is an error.
    """

    def resolve(self, value: Any) -> Any:
        """The value with every function in it evaluated. Raises TemplateError."""
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not NO_VALUE]
        name, argument = function_of(value)
        if name and (name != "Condition" or argument in self.conditions):
            function = _FUNCTIONS.get(name)
            if function is None:
                raise TemplateError(unsupported_function(name))
            return function(self, argument)
        if isinstance(value, dict):
            resolved = {key: self.resolve(item) for key, item in value.items()}
            return {key: item for key, item in resolved.items() if item is not NO_VALUE}
        return value

    def reference(self, name: str) -> Any:
        """What `Ref` returns for a name. Raises TemplateError for an unknown one."""
        match name:
            case "AWS::NoValue":
                return NO_VALUE
            case "AWS::NotificationARNs":
                return []
        pseudo = {
            "AWS::StackName": self.stack_name,
            "AWS::StackId": self.stack_id,
            "AWS::Region": self.region,
            "AWS::AccountId": self.account_id,
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::Partition": "aws",
        }
        if name in pseudo:
            return pseudo[name]
        if name in self.parameters:
            parameter = self.parameters[name]
            value = text(parameter["Value"])
            if is_list_type(str(parameter.get("Type", "String"))):
                return [item.strip() for item in value.split(",")] if value else []
            return value
        record = self.resources.get(name, {})
        if "PhysicalResourceId" in record:
            return record["PhysicalResourceId"]
        return self._missing(name)

    def attribute(self, logical_id: str, name: str) -> Any:
        """What `Fn::GetAtt` returns: an attribute of the type's own, or a property. Raises TemplateError."""
        record = self.resources.get(logical_id, {})
        if "PhysicalResourceId" not in record:
            return self._missing(logical_id, name)
        attributes = record.get("Attributes") or {}
        if name in attributes:
            return attributes[name]
        resource_type = record.get("ResourceType", "")
        properties = record.get("Properties") or {}
        if name in properties and name in schemas.all_schemas().get(resource_type, {}).get("properties", ()):
            return properties[name]
        raise TemplateError(f"Requested attribute {name} does not exist in schema for {resource_type or logical_id}")

    def condition(self, name: Any) -> bool:
        """Whether a condition holds. Raises TemplateError for one that is not defined."""
        if not isinstance(name, str) or name not in self.conditions:
            raise TemplateError(f"Template error: unresolved condition dependency {name} in Fn::If")
        return self.conditions[name]

    def _missing(self, name: str, attribute: str = "") -> str:
        if self.unknown is None:
            raise TemplateError(
                f"Template format error: Unresolved resource dependencies [{name}] in the Resources block of the "
                "template"
            )
        return self.unknown(f"{name}.{attribute}" if attribute else name)

    def is_open(self, value: Any) -> bool:
        """Whether a value is a placeholder for a list that does not exist yet."""
        return self.unknown is not None and isinstance(value, str)


def conditions_of(template: Json, scope: Scope) -> dict[str, bool]:
    """Which of a template's conditions hold. Raises TemplateError."""
    definitions: Json = template.get("Conditions") or {}
    known: dict[str, bool] = {}
    pending: list[str] = []

    def holds(name: Any) -> bool:
        if name not in definitions:
            raise TemplateError(
                f"Template format error: Unresolved dependencies [{name}]. Cannot reference resources in the "
                "Conditions block of the template"
            )
        if name in pending:
            raise TemplateError(f"Template format error: Circular dependencies for conditions: [{', '.join(pending)}]")
        if name not in known:
            pending.append(name)
            known[name] = is_true(definitions[name])
            pending.pop()
        return known[name]

    def is_true(expression: Any) -> bool:
        function, argument = function_of(expression)
        match function:
            case "Condition":
                return holds(argument)
            case "Fn::And":
                return all([is_true(each) for each in argument])  # noqa: C419 - each is checked
            case "Fn::Or":
                return any([is_true(each) for each in argument])  # noqa: C419
            case "Fn::Not":
                return not is_true(argument[0])
            case "Fn::Equals":
                left, right = (scope.resolve(each) for each in argument)
                return left == right if isinstance(left, list) else text(left) == text(right)
        raise TemplateError("Template format error: Every Conditions member must be a condition function.")

    for name in definitions:
        holds(name)
    return known


def unsupported_function(name: str) -> str:
    """AWS's message for a function that it does not have."""
    return (
        f"Template error: Encountered unsupported function: {name} "
        f"Supported functions are: [{', '.join(sorted(each for each in _FUNCTIONS if each.startswith('Fn::')))}]"
    )


def selected(index: Any, items: Any) -> Any:
    """`Fn::Select`. Raises TemplateError."""
    if not re.fullmatch(r"-?\d+", text(index)) or not isinstance(items, list):
        raise TemplateError(
            "Template error: Fn::Select requires a list argument with two elements: an integer index and a list"
        )
    if not 0 <= int(text(index)) < len(items):
        raise TemplateError(f"Template error: Fn::Select cannot select nonexistent value at index {text(index)}")
    return items[int(text(index))]


def _get_att(scope: Scope, argument: Any) -> Any:
    name, attribute = get_att_parts(argument)
    return scope.attribute(name, text(scope.resolve(attribute)))


def _join(scope: Scope, argument: Any) -> Any:
    delimiter, items = argument[0], scope.resolve(argument[1])
    if scope.is_open(items):
        return items
    if not isinstance(items, list) or any(isinstance(item, list | dict) for item in items):
        raise TemplateError(
            "Template error: every Fn::Join object requires two parameters, (1) a string delimiter and (2) a list of "
            "strings to be joined or a function that returns a list of strings (such as Fn::GetAZs) to be joined."
        )
    return text(delimiter).join(text(item) for item in items)


def _sub(scope: Scope, argument: Any) -> str:
    pattern, _, own = sub_variables(argument)
    values = {name: scope.resolve(value) for name, value in own.items()}

    def replaced(found: re.Match[str]) -> str:
        name = found[1]
        if name.startswith("!"):
            return f"${{{name[1:]}}}"
        if name in values:
            return text(values[name])
        logical_id, _, attribute = name.partition(".")
        value = scope.attribute(logical_id, attribute) if attribute else scope.reference(name)
        return ",".join(map(text, value)) if isinstance(value, list) else text(value)

    return _VARIABLE.sub(replaced, pattern)


def _select(scope: Scope, argument: Any) -> Any:
    items = scope.resolve(argument[1])
    return items if scope.is_open(items) else selected(scope.resolve(argument[0]), items)


def _split(scope: Scope, argument: Any) -> Any:
    # AWS documents a string as the delimiter, but some templates use a function.
    delimiter = text(scope.resolve(argument[0]))
    if not delimiter:
        raise TemplateError(SPLIT_REFUSED)
    return text(scope.resolve(argument[1])).split(delimiter)


def _if(scope: Scope, argument: Any) -> Any:
    return scope.resolve(argument[1] if scope.condition(argument[0]) else argument[2])


def _base64(scope: Scope, argument: Any) -> str:
    return base64.b64encode(text(scope.resolve(argument)).encode()).decode()


def _find_in_map(scope: Scope, argument: Any) -> Any:
    name, first, second = (text(scope.resolve(each)) for each in argument[:3])
    found = (scope.mappings.get(name) or {}).get(first) or {}
    if second in found:
        return found[second]
    if len(argument) > 3 and isinstance(argument[3], dict) and "DefaultValue" in argument[3]:
        return scope.resolve(argument[3]["DefaultValue"])
    raise TemplateError(f"Template error: Unable to get mapping for {name}::{first}::{second}")


def _import_value(scope: Scope, argument: Any) -> Any:
    name = scope.resolve(argument)
    if scope.export is None:
        raise TemplateError("Template error: Cannot use Fn::ImportValue in Conditions.")
    try:
        return scope.export(text(name))
    except TemplateError:
        if scope.unknown is None:
            raise
        return scope.unknown(text(name))


def _get_azs(scope: Scope, argument: Any) -> list[str]:
    region = text(scope.resolve(argument)) or scope.region
    # AWS returns an empty list for a region other than the stack's.
    return [f"{region}{letter}" for letter in "abc"] if region == scope.region else []


def _cidr(scope: Scope, argument: Any) -> Any:
    block, count, *bits = scope.resolve(argument)
    try:
        network = ipaddress.ip_network(text(block), strict=False)
        prefix = network.max_prefixlen - int(text(bits[0] if bits else 8))
        if not 1 <= int(text(count)) <= 256:
            raise ValueError("count must be between 1 and 256")
        blocks = [str(each) for each in itertools.islice(network.subnets(new_prefix=prefix), int(text(count)))]
        if len(blocks) < int(text(count)):
            raise ValueError(f"{block} holds only {len(blocks)} /{prefix} blocks")
    except ValueError as error:
        if scope.unknown is not None:
            return text(block)
        raise TemplateError(f"Template error: Fn::Cidr {block}: {error}") from error
    return blocks


def _to_json(scope: Scope, argument: Any) -> str:
    return json.dumps(scope.resolve(argument), separators=(",", ":"))


def _transform(scope: Scope, argument: Any) -> Any:
    del scope
    raise TemplateError(f"Template error: the local region does not honour the transform {argument}")


_FUNCTIONS: dict[str, Callable[[Scope, Any], Any]] = {
    "Ref": lambda scope, argument: scope.reference(text(argument)),
    "Condition": lambda scope, argument: scope.condition(argument),
    "Fn::And": lambda scope, argument: all(scope.resolve(argument)),
    "Fn::Base64": _base64,
    "Fn::Cidr": _cidr,
    "Fn::Equals": lambda scope, argument: len({text(scope.resolve(each)) for each in argument}) == 1,
    "Fn::FindInMap": _find_in_map,
    "Fn::GetAZs": _get_azs,
    "Fn::GetAtt": _get_att,
    "Fn::If": _if,
    "Fn::ImportValue": _import_value,
    "Fn::Join": _join,
    "Fn::Not": lambda scope, argument: not scope.resolve(argument)[0],
    "Fn::Or": lambda scope, argument: any(scope.resolve(argument)),
    "Fn::Select": _select,
    "Fn::Split": _split,
    "Fn::Sub": _sub,
    "Fn::ToJsonString": _to_json,
    "Fn::Transform": _transform,
}
