"""Reads a template from JSON or YAML, and refuses what AWS refuses, before anything is changed.

Rules and messages are those of the CloudFormation User Guide, "Template anatomy" and "Intrinsic function reference";
`tests/region/aws_facts/cloudformation.json` lists the messages that were recorded from AWS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]

from alva.region.cloudformation import parameters
from alva.region.cloudformation.graph import circular_names
from alva.region.cloudformation.intrinsics import (
    CONDITION_FUNCTIONS,
    SPLIT_REFUSED,
    Json,
    Scope,
    TemplateError,
    function_of,
    get_att_parts,
    references,
    selected,
    text,
    unsupported_function,
)

SECTIONS = frozenset({
    "AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Mappings", "Conditions", "Rules",
    "Transform", "Hooks", "Resources", "Outputs",
})  # fmt: skip
RESOURCE_ATTRIBUTES = frozenset({
    "Type", "Properties", "Metadata", "DependsOn", "Condition", "CreationPolicy", "UpdatePolicy", "DeletionPolicy",
    "UpdateReplacePolicy", "Version",
})  # fmt: skip
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
LIMITS = {"Resources": 500, "Parameters": 200, "Outputs": 200, "Mappings": 200}
LONGEST_DESCRIPTION_BYTES = 1024
_PSEUDO_PARAMETERS = frozenset({
    "AWS::AccountId", "AWS::NotificationARNs", "AWS::NoValue", "AWS::Partition", "AWS::Region", "AWS::StackId",
    "AWS::StackName", "AWS::URLSuffix",
})  # fmt: skip
_DYNAMIC_REFERENCE = re.compile(r"\{\{resolve:([a-z-]+):[^}]*\}\}")
_DYNAMIC_SERVICES = ("ssm", "ssm-secure", "secretsmanager")
_POLICIES = ("Delete", "Retain", "RetainExceptOnCreate", "Snapshot")
# Types that need a capability, with the property for a custom name, which needs CAPABILITY_NAMED_IAM.
_CAPABILITY_TYPES = {
    "AWS::IAM::AccessKey": "",
    "AWS::IAM::Group": "GroupName",
    "AWS::IAM::InstanceProfile": "InstanceProfileName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::IAM::Policy": "",
    "AWS::IAM::Role": "RoleName",
    "AWS::IAM::User": "UserName",
    "AWS::IAM::UserToGroupAddition": "",
}
# The number of arguments of each function, and AWS's message for another number.
_ARITIES = {
    "Fn::Equals": ((2,), "Template error: every Fn::Equals object requires a list of 2 string parameters."),
    "Fn::Split": (
        (2,),
        SPLIT_REFUSED,
    ),
    "Fn::Join": (
        (2,),
        "Template error: every Fn::Join object requires two parameters, (1) a string delimiter and (2) a list of "
        "strings to be joined or a function that returns a list of strings (such as Fn::GetAZs) to be joined.",
    ),
    "Fn::Select": (
        (2,),
        "Template error: Fn::Select requires a list argument with two elements: an integer index and a list",
    ),
    "Fn::FindInMap": (
        (3, 4),
        "Template error: every Fn::FindInMap object requires three parameters, the map name, map key and the attribute "
        "for return value",
    ),
    "Fn::If": (
        (3,),
        "Template error: Fn::If requires a list argument with the first element being a condition",
    ),
    "Fn::Not": ((1,), "Template error: every Fn::Not object requires one boolean parameter."),
    "Fn::And": (range(2, 11), "Template error: every Fn::And object requires a list of at least 2 and at most 10 "
                "boolean parameters."),
    "Fn::Or": (range(2, 11), "Template error: every Fn::Or object requires a list of at least 2 and at most 10 "
               "boolean parameters."),
    "Fn::Cidr": ((2, 3), "Template error: every Fn::Cidr object requires two or three parameters."),
}  # fmt: skip


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Loads YAML with the short forms of the functions; dates remain strings."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> Json:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        return {name: value.split(".", 1) if suffix == "GetAtt" else value}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)  # noqa: S101 - there are three kinds of nodes
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _short_form)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))


def parse(body: str) -> Json:
    """The template of a JSON or YAML text. Raises TemplateError."""
    try:
        template = json.loads(body) if body.lstrip().startswith("{") else yaml.load(body, _Loader)  # noqa: S506
    except json.JSONDecodeError as error:
        raise TemplateError(
            f"Template format error: JSON not well-formed. (line {error.lineno}, column {error.colno + 1})"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        position = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise TemplateError(f"Template format error: YAML not well-formed.{position}") from error
    if not isinstance(template, dict):
        raise TemplateError("Template format error: unsupported structure.")
    return {text(name): _with_text_keys(section) for name, section in template.items()}


def _with_text_keys(value: Any) -> Any:
    """The value with all keys as strings; YAML reads some as numbers or booleans."""
    if isinstance(value, dict):
        return {text(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list) else value


def check(template: Json) -> None:
    """Check what depends on the template alone. Raises TemplateError."""
    for path in _nulls({name: section for name, section in template.items() if name != "Metadata"}, ""):
        raise TemplateError(f"[{path}] 'null' values are not allowed in templates")
    if unknown := sorted(set(template) - SECTIONS):
        raise TemplateError(f"Invalid template property or properties [{', '.join(unknown)}]")
    description = template.get("Description", "")
    if not isinstance(description, str) or len(description.encode()) > LONGEST_DESCRIPTION_BYTES:
        raise TemplateError(
            f"Template format error: 'Description' length is greater than {LONGEST_DESCRIPTION_BYTES}."
            if isinstance(description, str)
            else "Template format error: Every Description member must be a string."
        )
    for section in ("Parameters", "Mappings", "Conditions", "Rules", "Resources", "Outputs"):
        if not isinstance(template.get(section, {}), dict):
            raise TemplateError(f"Template format error: {section} must be an object.")
    for section, most in LIMITS.items():
        _check_names(template.get(section) or {}, section, most)
    if not template.get("Resources"):
        raise TemplateError("Template format error: At least one Resources member must be defined.")
    _check_mappings(template.get("Mappings") or {})
    for name, definition in (template.get("Parameters") or {}).items():
        if not isinstance(definition, dict) or "Type" not in definition:
            raise TemplateError("Template format error: Every Parameters object must contain a Type member.")
        if not re.fullmatch(r"String|Number|CommaDelimitedList|List<.+>|AWS::.+", text(definition["Type"])):
            raise TemplateError(f"Template format error: Unrecognized parameter type: {definition['Type']}")
        if isinstance(definition.get("Default"), dict | list):
            raise TemplateError("Template format error: Every Default member must be a string.")
        parameters.check_definition(name, definition)
    for name, definition in template["Resources"].items():
        _check_resource(name, definition, template)
    for name, definition in (template.get("Outputs") or {}).items():
        if not isinstance(definition, dict) or "Value" not in definition:
            raise TemplateError("Template format error: Every Outputs member must contain a Value object")
        if function_of(definition["Value"])[0] in CONDITION_FUNCTIONS:
            raise TemplateError(
                "Template format error: The Value field of every Outputs member must evaluate to a String."
            )
        _check_condition(definition.get("Condition"), template, "Outputs")
        _check_export(name, definition.get("Export", {"Name": name}))
    for section in ("Conditions", "Resources", "Outputs"):
        _check_functions(list((template.get(section) or {}).values()), template)
    _check_dynamic_references(template)


def check_in(template: Json, scope: Scope, known_types: Collection[str]) -> None:
    """Check what depends on parameters and conditions. Raises TemplateError."""
    resources = active(template["Resources"], scope.conditions)
    outputs = active(template.get("Outputs") or {}, scope.conditions)
    types = {text(definition["Type"]) for definition in resources.values()}
    unknown = sorted(name for name in types if name not in known_types and not name.startswith("Custom::"))
    if unknown:
        raise TemplateError(f"Template format error: Unrecognized resource types: [{', '.join(unknown)}]")
    for section, prefix, definitions in (
        ("Resources", "Template format error: ", resources),
        ("Outputs", "", outputs),
    ):
        names = _PSEUDO_PARAMETERS | set(template.get("Parameters") or {}) | set(resources)
        missing = sorted({name for each in definitions.values() for name in _needed(each, scope)} - names)
        if missing:
            raise TemplateError(
                f"{prefix}Unresolved resource dependencies [{', '.join(missing)}] in the {section} block of the "
                "template"
            )
        for value in _literals(list(definitions.values()), scope):
            _check_literal(value, scope)
    circle = circular_names({name: dependencies_of(each) & set(resources) for name, each in resources.items()})
    if circle:
        raise TemplateError(f"Circular dependency between resources: [{', '.join(sorted(circle))}]")


def active(definitions: Json, conditions: Mapping[str, bool]) -> Json:
    """The resources or outputs whose condition holds."""
    return {name: each for name, each in definitions.items() if conditions.get(each.get("Condition", ""), True)}


def dependencies_of(definition: Json) -> set[str]:
    """The logical ids that a resource names in its properties and in DependsOn."""
    depends_on = definition.get("DependsOn") or []
    return {name for name, _ in references(definition.get("Properties") or {})} | {
        *([depends_on] if isinstance(depends_on, str) else depends_on)
    }


def capabilities(template: Json) -> tuple[list[str], list[str]]:
    """The capabilities that a template needs, and the resource types that need them.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html ("Capabilities")
    """
    resources = [each for each in (template.get("Resources") or {}).values() if isinstance(each, dict)]
    types = sorted({text(each["Type"]) for each in resources if each.get("Type") in _CAPABILITY_TYPES})
    names = [_CAPABILITY_TYPES.get(text(each.get("Type", "")), "") for each in resources]
    is_named = any((each.get("Properties") or {}).get(name) for each, name in zip(resources, names, strict=True))
    needed = ["CAPABILITY_NAMED_IAM" if is_named else "CAPABILITY_IAM"] if types else []
    return needed + (["CAPABILITY_AUTO_EXPAND"] if template.get("Transform") else []), types


def _nulls(value: Any, path: str) -> Iterator[str]:
    if value is None:
        yield path
    elif isinstance(value, dict):
        for name, item in value.items():
            if name != "Metadata":
                yield from _nulls(item, f"{path}/{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nulls(item, f"{path}/{index}")


def _check_names(members: Json, section: str, most: int) -> None:
    singular = section.removesuffix("s")
    if len(members) > most:
        raise TemplateError(
            f"Template format error: Number of {section.lower()}, {len(members)}, is greater than maximum allowed, "
            f"{most}"
        )
    for name in members:
        if not re.fullmatch(r"[A-Za-z0-9]{1,255}" if section != "Mappings" else r"[A-Za-z0-9._-]{1,255}", name):
            raise TemplateError(f"Template format error: {singular} name {name} is non alphanumeric.")


def _check_mappings(mappings: Json) -> None:
    for name, mapping in mappings.items():
        if not isinstance(mapping, dict) or not all(isinstance(each, dict) for each in mapping.values()):
            raise TemplateError(f"Template format error: Every Mappings member {name} must be a map")
        for attributes in mapping.values():
            if any(isinstance(value, dict) for value in attributes.values()):
                raise TemplateError("Template format error: Every Mappings attribute must be a String or a List.")


def _check_resource(name: str, definition: Any, template: Json) -> None:
    if not isinstance(definition, dict):
        raise TemplateError("Template format error: Any Resources member must be an object.")
    if not definition.get("Type") or not isinstance(definition["Type"], str):
        raise TemplateError(
            f"Template format error: [/Resources/{name}] Every Resources object must contain a Type member."
        )
    for attribute in definition:
        if attribute not in RESOURCE_ATTRIBUTES:
            raise TemplateError(f"Invalid template resource property '{attribute}'")
    for attribute in ("DeletionPolicy", "UpdateReplacePolicy"):
        policy = definition.get(attribute)
        if isinstance(policy, str) and policy not in _POLICIES:
            raise TemplateError(f"Template format error: Unrecognized {attribute} {policy} for resource {name}")
    if not isinstance(definition.get("Properties", {}), dict):
        raise TemplateError("Template format error: [Properties] must be an object.")
    _check_condition(definition.get("Condition"), template, "Resources")
    depends_on = definition.get("DependsOn") or []
    names = [depends_on] if isinstance(depends_on, str) else depends_on
    if not isinstance(names, list):
        raise TemplateError("Template format error: DependsOn must be a string or list of strings.")
    if not all(isinstance(each, str) for each in names):
        raise TemplateError("Template format error: Every DependsOn value must be a string.")
    if missing := sorted(set(names) - set(template["Resources"])):
        raise TemplateError(
            f"Template format error: Unresolved resource dependencies [{', '.join(missing)}] in the Resources block of "
            "the template"
        )


def _check_condition(name: Any, template: Json, section: str) -> None:
    if not isinstance(name, str | None):
        raise TemplateError("Template format error: Every Condition member must be a string.")
    if name is not None and name not in (template.get("Conditions") or {}):
        raise TemplateError(
            f"Template format error: Unresolved condition dependency {name} in the {section} block of the template"
        )


def _check_export(output: str, export: Any) -> None:
    name = export.get("Name") if isinstance(export, dict) else None
    if not isinstance(name, dict) and not re.fullmatch(r"[A-Za-z0-9:-]+", text(name or "")):
        raise TemplateError(
            f"Template format error: Output {output} is malformed. The Name field of every Export member must be "
            "specified and consist only of alphanumeric characters, colons, or hyphens."
        )


def _check_functions(value: Any, template: Json) -> None:
    """The shape of each function's argument, and the names of conditions."""
    if isinstance(value, list):
        for item in value:
            _check_functions(item, template)
    if not isinstance(value, dict):
        return
    name, argument = function_of(value)
    if name == "Ref" and not isinstance(argument, str):
        raise TemplateError("Template error: every Ref object must have a single String value.")
    for name, argument in value.items():
        if name in _ARITIES:
            allowed, message = _ARITIES[name]
            if not isinstance(argument, list) or len(argument) not in allowed:
                raise TemplateError(message)
        if name == "Fn::GetAtt":
            get_att_parts(argument)
        elif name == "Fn::Select":
            _check_select(*argument)
        elif name == "Fn::If" and not isinstance(argument[0], str):
            raise TemplateError(_ARITIES[name][1])
        elif name == "Fn::If" and argument[0] not in (template.get("Conditions") or {}):
            raise TemplateError(f"Template error: unresolved condition dependency {argument[0]} in Fn::If")
        elif name.startswith("Fn::") and name not in _KNOWN_FUNCTIONS:
            raise TemplateError(unsupported_function(name))
        _check_functions(argument, template)


def _check_select(index: Any, items: Any) -> None:
    if isinstance(items, list) and not isinstance(index, dict):
        selected(index, items)
    elif not isinstance(index, dict) and not re.fullmatch(r"\d+", text(index)):
        selected("", items)


_KNOWN_FUNCTIONS = frozenset(_ARITIES) | {
    "Fn::Base64", "Fn::GetAtt", "Fn::GetAZs", "Fn::ImportValue", "Fn::Sub", "Fn::ToJsonString", "Fn::Transform",
}  # fmt: skip


def _check_dynamic_references(template: Json) -> None:
    found = set(_DYNAMIC_REFERENCE.finditer(json.dumps([template.get("Resources"), template.get("Outputs")])))
    if unknown := sorted({each[0] for each in found if each[1] not in _DYNAMIC_SERVICES}):
        raise TemplateError(
            f"Template format error: unsupported dynamic reference(s): {', '.join(unknown)} "
            f"(supported: {', '.join(_DYNAMIC_SERVICES)})"
        )


def _needed(definition: Json, scope: Scope) -> Iterable[str]:
    """The names that a resource or an output refers to, without unused branches of `Fn::If`."""
    depends = {key: definition[key] for key in ("Properties", "Value", "Export") if key in definition}
    return {name for name, _ in references(_taken(depends, scope))}


def _taken(value: Any, scope: Scope) -> Any:
    """The value without unused branches of `Fn::If`."""
    if isinstance(value, list):
        return [_taken(item, scope) for item in value]
    name, argument = function_of(value)
    if name == "Fn::If":
        return _taken(argument[1] if scope.condition(argument[0]) else argument[2], scope)
    return {key: _taken(item, scope) for key, item in value.items()} if isinstance(value, dict) else value


def _literals(value: Any, scope: Scope) -> Iterator[Json]:
    """Every `Fn::Select`, `Fn::Split` and `Fn::FindInMap`, without unused branches of `Fn::If`."""
    pending = [_taken(value, scope)]
    while pending:
        each = pending.pop()
        if isinstance(each, list):
            pending += each
        elif isinstance(each, dict):
            if function_of(each)[0] in ("Fn::Select", "Fn::Split", "Fn::FindInMap"):
                yield each
            pending += each.values()


def _check_literal(value: Json, scope: Scope) -> None:
    """Evaluate a function that needs no resource. Raises TemplateError where it has no value."""
    names = {name for name, _ in references(value)}
    if names <= set(scope.parameters) | _PSEUDO_PARAMETERS and "Fn::ImportValue" not in json.dumps(value):
        scope.resolve(value)
