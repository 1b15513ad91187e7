"""AWS's query protocol, from botocore's service models: reads forms into typed input, writes responses as XML.

The input is checked against the model's constraints (`constraints`).
https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape

from alva.region import constraints
from alva.region.aws_error import AwsError
from alva.region.constraints import ConstraintViolated, service_model

Json = dict[str, Any]
Parameters = Mapping[str, str]
Response = tuple[int, dict[str, str], bytes]

# Characters that XML 1.0 cannot contain, not even as a reference: https://www.w3.org/TR/xml/#charsets
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
__all__ = [
    "ConstraintViolated",
    "flatten",
    "parse",
    "read_error",
    "read_form",
    "read_xml",
    "render",
    "render_error",
    "service_model",
    "text",
]


def read_form(body: bytes, query: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of a request (strings or lists of strings): those of its body override those of its URL."""
    url = {key: str(value[-1] if isinstance(value, list) else value) for key, value in query.items()}
    return url | dict(parse_qsl(body.decode("utf-8", errors="replace"), keep_blank_values=True))


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """A structure as parameters (`Actions.member.1.Type`). None is left out; an empty list is an empty parameter."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        parts = [flatten(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        if not value:
            return {prefix: ""}
        parts = [flatten(item, f"{prefix}.member.{index}") for index, item in enumerate(value, start=1)]
    else:
        return {prefix: str(value).lower() if isinstance(value, bool) else str(value)}
    return {key: item for part in parts for key, item in part.items()}


def parse(model: ServiceModel, action: str, parameters: Parameters, *, shows_values: bool = True) -> Json:
    """The typed input of an action. As on AWS, members that the model does not have are ignored.

    Raises ConstraintViolated when the input does not fit the model.
    """
    shape = model.operation_model(action).input_shape
    if shape is None:
        return {}
    problems: list[str] = []
    value = _read(shape, _tree(parameters), "", problems)
    constraints.refuse(problems)
    constraints.check(shape, value, shows_values=shows_values)
    return value if isinstance(value, dict) else {}


def render(model: ServiceModel, action: str, answer: Mapping[str, Any]) -> bytes:
    """The XML of an action's response, without members that are None or that the model lacks."""
    shape = model.operation_model(action).output_shape
    result = ""
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper", f"{action}Result")
        result = f"<{wrapper}>{_write(shape, answer)}</{wrapper}>"
    metadata = f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
    return (
        f'<{action}Response xmlns="{model.metadata.get("xmlNamespace", "")}">{result}{metadata}</{action}Response>'
    ).encode()


def render_error(model: ServiceModel, code: str, message: str, *, is_senders: bool = True) -> bytes:
    """The XML of an error."""
    return (
        f'<ErrorResponse xmlns="{model.metadata.get("xmlNamespace", "")}"><Error>'
        f"<Type>{'Sender' if is_senders else 'Receiver'}</Type><Code>{text(code)}</Code>"
        f"<Message>{text(message)}</Message></Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    ).encode()


def answer(model: ServiceModel, action: str, content: Mapping[str, Any]) -> Response:
    """A response."""
    return 200, {"Content-Type": "text/xml"}, render(model, action, content)


def refuse(model: ServiceModel, error: AwsError) -> Response:
    """An error response."""
    return error.status, {"Content-Type": "text/xml"}, render_error(model, error.code, error.message)


def read_xml(body: bytes) -> ElementTree.Element:
    """The XML of a response without its namespaces."""
    root = ElementTree.fromstring(body)  # noqa: S314 - this process wrote it
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def read_error(body: bytes) -> tuple[str, str]:
    """The code and the message of an error's XML."""
    root = read_xml(body)
    return root.findtext(".//Code", "UnknownError"), root.findtext(".//Message", "")


# Input


def _tree(parameters: Parameters) -> Json:
    """Nested dictionaries, from the dots in the names. An empty parameter that also has members is dropped."""
    tree: Json = {}
    for name in sorted(parameters, key=lambda name: name.count(".")):
        node = tree
        *path, last = name.split(".")
        for part in path:
            below = node.get(part)
            if not isinstance(below, dict):
                below = node[part] = {}
            node = below
        node[last] = parameters[name]
    return tree


def _read(shape: Shape, node: Any, path: str, problems: list[str]) -> Any:
    if isinstance(shape, StructureShape):
        return _read_structure(shape, node, path, problems)
    if isinstance(shape, ListShape):
        return _read_list(shape, node, path, problems)
    if isinstance(shape, MapShape):
        return _read_map(shape, node, path, problems)
    if isinstance(node, dict):
        problems.append(constraints.problem(node, path, "Member must be a single value"))
        return None
    return _read_scalar(shape, str(node), path, problems)


def _read_structure(shape: StructureShape, node: Any, path: str, problems: list[str]) -> Json:
    given = node if isinstance(node, dict) else {}
    result: Json = {}
    for name, member in shape.members.items():
        where = constraints.below(path, name)
        found = given.get(member.serialization.get("name", name))
        is_blank = found == "" and member.type_name not in ("string", "list", "structure")
        if found is not None and not is_blank:
            result[name] = _read(member, found, where, problems)
    return result


def _read_list(shape: ListShape, node: Any, path: str, problems: list[str]) -> list[Any]:
    items = node if isinstance(node, dict) else {}
    if not shape.serialization.get("flattened"):
        items = items.get(shape.member.serialization.get("name", "member"), {})
    numbered = [(int(key), item) for key, item in items.items() if key.isdecimal()] if isinstance(items, dict) else []
    if isinstance(items, dict) and len(numbered) < len(items):
        problems.append(constraints.problem(node, path, "Member must be a list"))
    return [
        _read(shape.member, item, f"{path}.{index}.member", problems)
        for index, (_, item) in enumerate(sorted(numbered, key=lambda each: each[0]), start=1)
    ]


def _read_map(shape: MapShape, node: Any, path: str, problems: list[str]) -> Json:
    entries = node if isinstance(node, dict) else {}
    if not shape.serialization.get("flattened"):
        entries = entries.get("entry", {})
    key_name, value_name = (each.serialization.get("name", name) for each, name in _key_and_value(shape))
    return {
        str(entry.get(key_name, "")): _read(shape.value, entry.get(value_name, ""), f"{path}.{index}.value", problems)
        for index, entry in enumerate(entries.values() if isinstance(entries, dict) else (), start=1)
        if isinstance(entry, dict)
    }


def _read_scalar(shape: Shape, text: str, path: str, problems: list[str]) -> Any:
    match shape.type_name:
        case "integer" | "long":
            if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
                problems.append(constraints.problem(text, path, "Member must be an integer"))
                return None
            return int(text)
        case "float" | "double":
            try:
                return float(text)
            except ValueError:
                problems.append(constraints.problem(text, path, "Member must be a number"))
                return None
        case "boolean":
            if text.lower() not in ("true", "false"):
                problems.append(constraints.problem(text, path, "Member must be true or false"))
            return text.lower() == "true"
        case _:
            return text


def _key_and_value(shape: MapShape) -> Iterable[tuple[Shape, str]]:
    return ((shape.key, "key"), (shape.value, "value"))


# Output


def _write(shape: Shape, value: Any) -> str:
    if isinstance(shape, StructureShape):
        parts = []
        for name, member in shape.members.items():
            item = value.get(name)
            if item is None:
                continue
            tag = member.serialization.get("name", name)
            if isinstance(member, ListShape | MapShape) and member.serialization.get("flattened"):
                parts.append(_write_flattened(member, tag, item))
            else:
                parts.append(f"<{tag}>{_write(member, item)}</{tag}>")
        return "".join(parts)
    if isinstance(shape, ListShape):
        return _write_flattened(shape, shape.member.serialization.get("name", "member"), value)
    if isinstance(shape, MapShape):
        return _write_flattened(shape, "entry", value)
    if shape.type_name == "timestamp":
        moment = datetime.fromtimestamp(value, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
    return str(value).lower() if isinstance(value, bool) else text(str(value))


def _write_flattened(shape: Shape, tag: str, value: Any) -> str:
    if isinstance(shape, ListShape):
        return "".join(f"<{tag}>{_write(shape.member, item)}</{tag}>" for item in value)
    assert isinstance(shape, MapShape)  # noqa: S101 - lists and maps alone come here
    key_tag, value_tag = (each.serialization.get("name", name) for each, name in _key_and_value(shape))
    return "".join(
        f"<{tag}><{key_tag}>{text(str(key))}</{key_tag}><{value_tag}>{_write(shape.value, item)}</{value_tag}></{tag}>"
        for key, item in value.items()
    )


def text(value: str) -> str:
    """Text for XML: characters that XML cannot contain become U+FFFD, the replacement character."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("\r", "&#13;")):
        value = value.replace(character, entity)
    return NOT_XML.sub("\ufffd", value)
