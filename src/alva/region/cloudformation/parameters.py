"""A stack's parameters: values of the request, defaults and constraints of the template, values in Parameter Store.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ministack.services import ssm

from alva.region.cloudformation.intrinsics import Json, TemplateError, text

LARGEST_VALUE_BYTES = 4096
_SSM_VALUE = "AWS::SSM::Parameter::Value<"
_LISTS = ("CommaDelimitedList", "List<Number>")


def resolved(template: Json, given: Iterable[Mapping[str, Any]], previous: Mapping[str, Json]) -> dict[str, Json]:
    """The parameters of a template: {Value, NoEcho, Type} and, where Parameter Store has the value, its SsmName.

    `given` are a request's Parameters; `previous` is what this function returned for the stack's last operation.
    Raises TemplateError in AWS's words.
    """
    definitions: Json = template.get("Parameters") or {}
    entries = {str(entry["ParameterKey"]): entry for entry in given}
    if unknown := sorted(set(entries) - set(definitions)):
        raise TemplateError(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    values = {name: _value(name, definition, entries.get(name), previous) for name, definition in definitions.items()}
    if missing := [name for name, value in values.items() if value is None]:
        raise TemplateError(f"Parameters: [{', '.join(missing)}] must have values")
    return {name: _resolved(name, definitions[name], value or "") for name, value in values.items()}


def check_definition(name: str, definition: Json) -> None:
    """Raise TemplateError for a constraint that no value can be compared with."""
    try:
        for member in ("MinLength", "MaxLength"):
            int(definition.get(member, 0))
        for member in ("MinValue", "MaxValue"):
            float(definition.get(member, 0))
        list(map(text, definition.get("AllowedValues", [])))
        re.compile(definition.get("AllowedPattern", ""))
    except (TypeError, ValueError, re.error) as error:
        raise TemplateError(f"Template format error: Parameter '{name}' has an invalid constraint: {error}") from error


def _value(name: str, definition: Json, entry: Mapping[str, Any] | None, previous: Mapping[str, Json]) -> str | None:
    if entry is not None and entry.get("UsePreviousValue"):
        if name not in previous:
            raise TemplateError(
                f"Invalid input for parameter key {name}. Cannot specify usePreviousValue as true for a parameter key "
                "not in the previous template"
            )
        # A value in Parameter Store is read again in every operation.
        return text(previous[name].get("SsmName", previous[name]["Value"]))
    if entry is not None:
        return str(entry.get("ParameterValue", ""))
    return text(definition["Default"]) if "Default" in definition else None


def _resolved(name: str, definition: Json, value: str) -> Json:
    if len(value.encode()) > LARGEST_VALUE_BYTES:
        raise TemplateError(f"Parameter '{name}' value length is greater than {LARGEST_VALUE_BYTES}.")
    parameter_type = str(definition.get("Type", "String"))
    no_echo = text(definition.get("NoEcho", False)).lower() == "true"
    entry = {"Value": value, "NoEcho": no_echo, "Type": parameter_type}
    if parameter_type.startswith(_SSM_VALUE):
        found = ssm.resolve_parameter_value(value)
        if found is None:
            raise TemplateError(f"Unable to fetch parameters [{value}] from parameter store for this account.")
        entry.update(Value=found, SsmName=value)
    else:
        _check(name, definition, parameter_type, value)
    return entry


def _check(name: str, definition: Json, parameter_type: str, value: str) -> None:
    """Raises TemplateError where a value breaks the constraints of its definition."""
    items = [item.strip() for item in value.split(",")] if parameter_type in _LISTS else [value]
    if parameter_type in ("Number", "List<Number>"):
        _check_numbers(name, definition, items)
    elif parameter_type == "String":
        if len(value) < int(definition.get("MinLength", 0)):
            raise _refusal(name, definition, f"must contain at least {definition['MinLength']} characters")
        if len(value) > int(definition.get("MaxLength", LARGEST_VALUE_BYTES)):
            raise _refusal(name, definition, f"must contain at most {definition['MaxLength']} characters")
    allowed = definition.get("AllowedValues")
    if allowed and not {*items} <= {text(each) for each in allowed}:
        raise _refusal(name, definition, "must be one of AllowedValues")
    pattern = None if parameter_type == "Number" else definition.get("AllowedPattern")
    if pattern is not None and not all(re.fullmatch(pattern, item) for item in items):
        raise _refusal(name, definition, f"must match pattern {pattern}")


def _check_numbers(name: str, definition: Json, items: list[str]) -> None:
    for item in items:
        try:
            number = float(item)
        except ValueError:
            raise TemplateError(f"Parameter '{name}' must be a number.") from None
        if "MinValue" in definition and number < float(definition["MinValue"]):
            raise _refusal(name, definition, f"must be a number not less than {definition['MinValue']}")
        if "MaxValue" in definition and number > float(definition["MaxValue"]):
            raise _refusal(name, definition, f"must be a number not greater than {definition['MaxValue']}")


def _refusal(name: str, definition: Json, reason: str) -> TemplateError:
    return TemplateError(f"Parameter '{name}' {definition.get('ConstraintDescription') or reason}")
