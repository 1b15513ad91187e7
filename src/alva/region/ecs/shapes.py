"""Checks the ECS API's input against AWS's service model (types, required members, enums) and the supported features.

The model is botocore's: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/
"""

from __future__ import annotations

import re

from botocore.validate import ParamValidator

from alva.region import constraints
from alva.region.ecs.errors import EcsError, invalid_parameter, not_honoured
from alva.region.ecs.model import Json
from alva.region.ecs.support import Honoured


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
    except constraints.ConstraintViolated as error:
        raise invalid_parameter(str(error)) from error


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
