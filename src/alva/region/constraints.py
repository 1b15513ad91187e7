"""Checks input against AWS's service models: required members, types, lengths, ranges, patterns, enums.

The models are botocore's. The messages are those of AWS's own framework ("1 validation error detected:
Value null at 'name' failed to satisfy constraint: Member must not be null"), which lists ten problems at most. A
pattern must match the whole value. https://smithy.io/2.0/spec/constraint-traits.html
"""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import regex
from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape

_MOST_PROBLEMS = 10
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "blob": (str,),
}


class ConstraintViolated(ValueError):
    """Input that does not fit the model; the text is AWS's message."""


class WrongType(ValueError):
    """Input whose JSON has another type than the model states; the text names the member."""


@functools.cache
def service_model(name: str) -> ServiceModel:
    """botocore's model of a service, `elbv2` for example."""
    return ServiceModel(_loader().load_service_model(name, "service-2"), name)


@functools.cache
def _loader() -> Loader:
    """One loader for all models: each new one lists the folders of all services.

    It is not that of a session, whose import takes a quarter of a second at every start of the region.
    """
    return Loader()


def input_members(service: str, action: str) -> Mapping[str, Shape]:
    """The members of an action's input, by name."""
    shape = service_model(service).operation_model(action).input_shape
    return shape.members if shape is not None else {}


def check(shape: Shape | None, value: Any, *, path: str = "", shows_values: bool = True) -> None:
    """Raise ConstraintViolated, or WrongType, if a value does not fit its shape; None is a missing value.

    `shows_values` is False for services whose messages do not contain the sent values.
    """
    if shape is not None:
        refuse([_message(*each, shows_values=shows_values) for each in _violations(shape, value, path)])


def refuse(problems: list[str]) -> None:
    """Raise ConstraintViolated with these problems, if there are any."""
    if problems:
        found = problems[:_MOST_PROBLEMS]
        raise ConstraintViolated(
            f"{len(found)} validation error{'s' if len(found) > 1 else ''} detected: {'; '.join(found)}"
        )


def problem(value: object, path: str, constraint: str) -> str:
    """AWS's message about a value at `path`; None is a missing value."""
    shown = "null" if value is None else f"'{value}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def below(path: str, name: str) -> str:
    """The path of a structure's member, in AWS's notation."""
    lowered = name[0].lower() + name[1:]
    return f"{path}.{lowered}" if path else lowered


_Violation = tuple[Shape, Any, str, str]
"""Shape, value, path, and the constraint that the value does not satisfy."""


def _message(shape: Shape, value: Any, path: str, constraint: str, *, shows_values: bool) -> str:
    if value is not None and (not shows_values or shape.metadata.get("sensitive")):
        return f"Value at '{path}' failed to satisfy constraint: {constraint}"
    return problem(value, path, constraint)


def _violations(shape: Shape, value: Any, path: str) -> Iterator[_Violation]:
    if isinstance(shape, StructureShape):
        _require_type(value, dict, path, "a structure")
        for name, member in shape.members.items():
            item = value.get(name)
            if item is not None:
                yield from _violations(member, item, below(path, name))
            elif name in shape.required_members:
                yield member, None, below(path, name), "Member must not be null"
    elif isinstance(shape, ListShape):
        _require_type(value, list, path, "a list")
        yield from _size_violations(shape, len(value), value, path)
        for index, item in enumerate(value, start=1):
            if item is not None:
                yield from _violations(shape.member, item, f"{path}.{index}.member")
    elif isinstance(shape, MapShape):
        _require_type(value, dict, path, "a map")
        yield from _size_violations(shape, len(value), value, path)
        for key, item in value.items():
            yield from _violations(shape.key, key, f"{path}.key")
            if item is not None:
                yield from _violations(shape.value, item, f"{path}.{key}.value")
    else:
        yield from _scalar_violations(shape, value, path)


def _scalar_violations(shape: Shape, value: Any, path: str) -> Iterator[_Violation]:
    allowed_types = _PYTHON_TYPES.get(shape.type_name)
    if allowed_types is None:
        return
    if not isinstance(value, allowed_types) or (isinstance(value, bool) and bool not in allowed_types):
        raise WrongType(f"{path}: {type(value).__name__} is not a {shape.type_name}")
    match value:
        case bool():
            return
        case str() if shape.type_name == "blob":
            try:
                size = len(base64.b64decode(value, validate=True))
            except binascii.Error as error:
                raise WrongType(f"{path}: {error}") from error
            yield from _size_violations(shape, size, value, path)
        case str():
            if (allowed := shape.metadata.get("enum")) and value not in allowed:
                yield shape, value, path, f"Member must satisfy enum value set: [{', '.join(allowed)}]"
            yield from _size_violations(shape, len(value), value, path)
            pattern = shape.metadata.get("pattern")
            if pattern and not _compiled(pattern).fullmatch(value):
                yield shape, value, path, f"Member must satisfy regular expression pattern: {pattern}"
        case _:
            least, most = shape.metadata.get("min"), shape.metadata.get("max")
            if least is not None and value < least:
                yield shape, value, path, f"Member must have value greater than or equal to {least}"
            if most is not None and value > most:
                yield shape, value, path, f"Member must have value less than or equal to {most}"


def _size_violations(shape: Shape, size: int, value: Any, path: str) -> Iterator[_Violation]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        yield shape, value, path, f"Member must have length greater than or equal to {least}"
    if most is not None and size > most:
        yield shape, value, path, f"Member must have length less than or equal to {most}"


def _require_type(value: Any, wanted: type, path: str, name: str) -> None:
    if not isinstance(value, wanted):
        raise WrongType(f"{path or 'the request'}: {type(value).__name__} is not {name}")


@functools.cache
def _compiled(pattern: str) -> regex.Pattern[str]:
    """A pattern of a model. It has Java's syntax, in which characters above U+FFFF are pairs."""
    return regex.compile(pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF"))
