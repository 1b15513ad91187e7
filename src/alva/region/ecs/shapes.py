"""Input of the ECS API against AWS's own service model: types, required members, enums; and what is honoured here.

The model is the one that botocore carries: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/
"""

from __future__ import annotations

import functools
import re
from typing import Any

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape
from botocore.validate import ParamValidator

from alva.region.ecs.errors import EcsError, invalid_parameter, not_honoured
from alva.region.ecs.model import Json
from alva.region.ecs.support import Honoured


@functools.cache
def service_model() -> ServiceModel:
    """AWS's model of the ECS API."""
    # Not by way of a session: importing one costs a quarter of a second at every start of the region.
    return ServiceModel(Loader().load_service_model("ecs", "service-2"), "ecs")


def check_types(action: str, request: Json) -> None:
    """Raise InvalidParameterException or SerializationException when the request does not fit the action's shape."""
    shape = service_model().operation_model(action).input_shape
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
    _check_enums(shape, request, "")


def _check_enums(shape: Shape, value: Any, path: str) -> None:
    if isinstance(shape, StructureShape):
        for name, member in value.items():
            if member is not None:
                _check_enums(shape.members[name], member, f"{path}.{name}" if path else name)
    elif isinstance(shape, ListShape):
        for index, item in enumerate(value, 1):
            _check_enums(shape.member, item, f"{path}.{index}.member")
    elif isinstance(shape, MapShape):
        return
    elif (allowed := getattr(shape, "enum", None)) and value not in allowed:
        raise invalid_parameter(
            f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(allowed)}]"
        )


def check_honoured(request: Json, honoured: Honoured, path: str = "") -> None:
    """Raise UnsupportedFeatureException, naming the member, when the request asks for something without effect here."""
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


def from_cloudformation(value: Any, shape: Shape) -> Any:
    """CloudFormation's properties (PascalCase, numbers and booleans often as strings) as the API's members.

    Raises InvalidParameterException for a property that the shape does not have.
    """
    if isinstance(shape, StructureShape):
        members = {name.lower(): (name, member) for name, member in shape.members.items()}
        result = {}
        for key, item in value.items():
            if key.lower() not in members:
                raise invalid_parameter(f"extraneous key [{key}] is not permitted")
            name, member = members[key.lower()]
            result[name] = from_cloudformation(item, member)
        return result
    if isinstance(shape, ListShape):
        return [from_cloudformation(item, shape.member) for item in value]
    if isinstance(shape, MapShape):
        return {key: from_cloudformation(item, shape.value) for key, item in value.items()}
    if shape.type_name in ("integer", "long"):
        return int(value)
    if shape.type_name == "boolean":
        return value if isinstance(value, bool) else str(value).lower() == "true"
    if shape.type_name == "string":
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value
