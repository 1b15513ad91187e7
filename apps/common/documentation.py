"""The page `/docs`: a service's HTTP API, rendered from its OpenAPI document. The page loads no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_TEMPLATES = Path(__file__).parent / "templates"
_METHODS = ("get", "put", "post", "patch", "delete")


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    parameters: tuple[tuple[str, str, str], ...]
    """Name, location (path, query or header) and type."""
    body: str
    answers: tuple[tuple[str, str], ...]
    """HTTP statuses and the schema of the body."""


def read_operations(document: dict[str, Any]) -> list[Operation]:
    """Return the operations of an OpenAPI document in its order."""
    return [
        _read_operation(method, path, entry[method], document)
        for path, entry in document["paths"].items()
        for method in _METHODS
        if method in entry
    ]


def _read_operation(method: str, path: str, entry: dict[str, Any], document: dict[str, Any]) -> Operation:
    parameters = tuple(
        (parameter["name"], parameter["in"], describe(parameter["schema"], document))
        for parameter in entry.get("parameters", ())
        if parameter["in"] != "cookie"
    )
    body = entry.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    answers = group_answers(
        (status, _describe_answer(answer, document)) for status, answer in sorted(entry["responses"].items())
    )
    return Operation(
        method.upper(),
        path,
        entry.get("description") or entry.get("summary", ""),
        parameters,
        describe(body, document) if body else "",
        answers,
    )


def group_answers(answers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Merge the error statuses that have the same schema into one line."""
    given: list[tuple[str, str]] = []
    refused: dict[str, list[str]] = {}
    for status, holds in answers:
        if status < "400":
            given.append((status, holds))
        else:
            refused.setdefault(holds, []).append(status)
    return (*given, *((", ".join(statuses), holds) for holds, statuses in refused.items()))


def _describe_answer(answer: dict[str, Any], document: dict[str, Any]) -> str:
    schema = answer.get("content", {}).get("application/json", {}).get("schema")
    return describe(schema, document) if schema else str(answer.get("description", ""))


def describe(schema: dict[str, Any], document: dict[str, Any], depth: int = 0) -> str:
    """Return a schema in short form: `{"email": text, "password"?: text}`."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if depth > 3:
            return str(name)
        resolved: dict[str, Any] = document["components"]["schemas"][name]
        return describe(resolved, document, depth)
    if "enum" in schema:
        return " | ".join(f'"{value}"' for value in schema["enum"])
    if "const" in schema:
        return f'"{schema["const"]}"'
    if "anyOf" in schema:
        return " | ".join(describe(option, document, depth) for option in schema["anyOf"])
    kind = schema.get("type")
    if kind == "object" and schema.get("properties"):
        required = set(schema.get("required", ()))
        fields = (
            f'"{name}"{"" if name in required else "?"}: {describe(value, document, depth + 1)}'
            for name, value in schema["properties"].items()
        )
        return "{" + ", ".join(fields) + "}"
    if kind == "array":
        return f"[{describe(schema.get('items', {}), document, depth + 1)}, …]"
    names = {"string": "text", "integer": "number", "number": "number", "boolean": "true | false", "null": "null"}
    return str(schema.get("format") or names.get(str(kind), "anything"))


def add_page(app: FastAPI, path: str) -> None:
    """Serve the page at `path`."""
    style = (_TEMPLATES / "documentation.css").read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'"

    @app.get(path, include_in_schema=False)
    async def documentation() -> HTMLResponse:
        # Imported on request, because nothing else in a service without pages needs Jinja.
        from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

        document = app.openapi()
        templates = Environment(
            loader=FileSystemLoader(_TEMPLATES), autoescape=select_autoescape(), undefined=StrictUndefined
        )
        body = templates.get_template("documentation.html").render(
            title=app.title, operations=read_operations(document), openapi_url=app.openapi_url, style=style
        )
        return HTMLResponse(body, headers={"Content-Security-Policy": policy})
