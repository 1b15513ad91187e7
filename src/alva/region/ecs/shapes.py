"""Checks the ECS API's input against AWS's service model (types, required members, enums) and the supported features.

The model is botocore's: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from botocore.validate import ParamValidator

from alva.region import constraints
from alva.region.ecs.errors import EcsError, client_error, invalid_parameter, not_honoured
from alva.region.ecs.model import Json
from alva.region.ecs.support import Honoured

_NEEDED = {
    "environment": "name",
    "portMappings": "containerPort",
    "serviceRegistries": "registryArn",
    "settings": "name",
    "tags": "key",
    "volumes": "name",
}
"""Lists whose structures need a member that the model marks as optional: a record without it has no meaning.
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Types.html"""


def without_nulls(value: Any) -> Any:
    """The value without members that are null: in AWS's JSON protocols they count as absent.

    https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
    """
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def check_types(action: str, request: Json) -> None:
    """Raise InvalidParameterException or SerializationException when the request does not fit the action's shape."""
    shape = constraints.service_model("ecs").operation_model(action).input_shape
    if shape is None:
        return
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        text: str = report.generate_report()
        missing = re.search(r'Missing required parameter in (.*): "(.*)"', text)
        if missing:
            where = "" if missing[1] == "input" else f" in {missing[1]}"
            raise invalid_parameter(f"{missing[2][0].upper()}{missing[2][1:]} can not be blank{where}.")
        if "Unknown parameter" in text:
            raise invalid_parameter(text.splitlines()[0])
        raise EcsError("SerializationException", text)
    try:
        constraints.check(shape, request)
    except constraints.WrongType as error:
        raise EcsError("SerializationException", str(error)) from error
    except constraints.ConstraintViolated as error:
        raise invalid_parameter(str(error)) from error
    _check_needed(request, client_error if action == "RegisterTaskDefinition" else invalid_parameter)


def _check_needed(request: Json, refusal: Callable[[str], EcsError]) -> None:
    for name, value in request.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                if name in _NEEDED and item.get(_NEEDED[name]) in (None, ""):
                    needed = _NEEDED[name]
                    raise refusal(f"{needed[0].upper()}{needed[1:]} can not be blank in {name}.")
                _check_needed(item, refusal)


def check_honoured(request: Json, honoured: Honoured, path: str = "") -> None:
    """Raise UnsupportedFeatureException with the name of the first member that the region does not support."""
    for name, value in request.items():
        here = f"{path}.{name}" if path else name
        if value in (None, [], {}, "", False):
            continue
        rule = honoured.get(name)
        if rule is None:
            raise not_honoured(here)
        if isinstance(rule, frozenset):
            for item in value if isinstance(value, list) else [value]:
                if item not in rule:
                    raise not_honoured(f"{here} = {item!r}")
        if isinstance(rule, dict):
            for item in value if isinstance(value, list) else [value]:
                check_honoured(item, rule, here)
