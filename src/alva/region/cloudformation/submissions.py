"""Reads and checks the template and parameters of a request, before anything is changed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ministack import app as ministack_app
from ministack.core.responses import get_account_id, get_region

from alva.region.cloudformation import parameters, rules, template
from alva.region.cloudformation.context import scope_of
from alva.region.cloudformation.errors import Refused
from alva.region.cloudformation.intrinsics import Json, Scope, TemplateError, text
from alva.region.cloudformation.store import Stack, StackRecords

# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
LARGEST_INLINE_BYTES = 51200
LARGEST_OBJECT_BYTES = 1_000_000
SHOWN_CHARACTERS = 1000
"""The number of characters of a too long template that the error shows."""


@dataclass(frozen=True)
class Submission:
    """A checked template with the parameters of the request."""

    template: Json
    body: str
    parameters: dict[str, Json]
    scope: Scope


async def with_template(request: Json) -> Json:
    """The request with the template at its TemplateURL as its TemplateBody. Raises Refused."""
    body, url = request.get("TemplateBody"), request.get("TemplateURL")
    if body is not None and len(body.encode()) > LARGEST_INLINE_BYTES:
        raise Refused(
            f"1 validation error detected: Value '{body[:SHOWN_CHARACTERS]}...' at 'templateBody' failed to satisfy "
            f"constraint: Member must have length less than or equal to {LARGEST_INLINE_BYTES}"
        )
    if body is not None or not url:
        return request
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise Refused("TemplateURL must be a supported URL.")
    bucket, _, rest = parts.netloc.partition(".s3.")
    path = f"/{bucket}{parts.path}" if rest else parts.path
    status, _, content = await ministack_app.SERVICE_HANDLERS["s3"]("GET", path, {}, b"", {})
    if status != 200:
        raise Refused("S3 error: The specified key does not exist.")
    if len(content) > LARGEST_OBJECT_BYTES:
        raise Refused(f"Template may not exceed {LARGEST_OBJECT_BYTES} bytes in size.")
    return {**request, "TemplateBody": content.decode()}


def read(
    records: StackRecords,
    request: Json,
    stack: Stack,
    known_types: Collection[str],
    previous_template: Json | None = None,
) -> Submission:
    """Read and check the template and parameters of a request. Raises TemplateError or Refused in AWS's words.

    `known_types` are the resource types that the region can create. `previous_template` is the stack's template, for a
    request with UsePreviousTemplate.
    """
    body = request.get("TemplateBody")
    if body is None and previous_template is None:
        raise Refused("Either Template URL or Template Body must be specified.")
    source = previous_template if body is None else template.parse(body)
    assert source is not None  # noqa: S101 - one of them is there
    template.check(source)
    if source.get("Transform"):
        raise TemplateError("Template format error: the local region does not honour the section Transform")
    _check_tags(request.get("Tags") or [])
    _check_capabilities(request, source)
    given = parameters.resolved(source, request.get("Parameters") or (), stack.get("_resolved_params") or {})
    scope = scope_of(records, stack, source, given)
    template.check_in(source, scope, known_types)
    _check_allowed_types(request.get("ResourceTypes"), template.active(source["Resources"], scope.conditions))
    rules.check(source, scope)
    return Submission(source, stack["_template_body"] if body is None else body, given, scope)


def _check_tags(tags: list[Json]) -> None:
    for tag in tags:
        if str(tag.get("Key", "")).lower().startswith("aws:"):
            raise Refused(f"Tag key '{tag['Key']}' is reserved: the aws: prefix cannot be used")


def _check_capabilities(request: Json, source: Json) -> None:
    needed, _ = template.capabilities(source)
    given = set(request.get("Capabilities") or ())
    if "CAPABILITY_NAMED_IAM" in given:
        given.add("CAPABILITY_IAM")
    if missing := [each for each in needed if each not in given]:
        raise Refused(f"Requires capabilities : [{', '.join(missing)}]", "InsufficientCapabilitiesException")


def _check_allowed_types(allowed: list[str] | None, resources: Json) -> None:
    for definition in resources.values():
        name = definition["Type"]
        if allowed and not any(name == each or (each.endswith("*") and name.startswith(each[:-1])) for each in allowed):
            raise Refused(f"Resource type {name} is not allowed by parameter ResourceTypes [{', '.join(allowed)}]")


def validate_template(records: StackRecords, known_types: Collection[str], request: Json) -> Json:
    """ValidateTemplate."""
    if request.get("TemplateBody") is None:
        raise Refused("Either Template URL or Template Body must be specified.")
    source = template.parse(request["TemplateBody"])
    template.check(source)
    stack = {
        "StackName": "validated",
        "StackId": f"arn:aws:cloudformation:{get_region()}:{get_account_id()}:stack/validated/validated",
    }
    with contextlib.suppress(_Unfit):
        # Without all parameters the conditions, and so the set of resources, are unknown.
        values = _defaults(source)
        template.check_in(source, scope_of(records, stack, source, values), known_types)
    needed, types = template.capabilities(source)
    return {
        "Description": source.get("Description", ""),
        "Parameters": [
            {
                "ParameterKey": name,
                "DefaultValue": text(each["Default"]) if "Default" in each else None,
                "NoEcho": text(each.get("NoEcho", False)) == "true",
                "Description": each.get("Description"),
            }
            for name, each in (source.get("Parameters") or {}).items()
        ],
        **_capabilities(needed, types),
    }


class _Unfit(Exception):
    """No fitting value: a parameter has no default."""


def _defaults(source: Json) -> dict[str, Json]:
    try:
        return parameters.resolved(source, (), {})
    except TemplateError as error:
        raise _Unfit from error


def _capabilities(needed: list[str], types: list[str]) -> Json:
    if not needed:
        return {}
    reason = f"The following resource(s) require capabilities: [{', '.join(types)}]" if types else None
    return {"Capabilities": needed, "CapabilitiesReason": reason}


def get_template_summary(records: StackRecords, request: Json) -> Json:
    """GetTemplateSummary of a template or of a stack's."""
    body, name = request.get("TemplateBody"), request.get("StackName")
    if body is None and name:
        stack = records.find_existing(name)
        if stack is None:
            raise Refused(f"Stack with id {name} does not exist")
        if stack["StackStatus"] == "REVIEW_IN_PROGRESS":
            raise Refused("GetTemplateSummary cannot be called on REVIEW_IN_PROGRESS stacks.")
        body = stack["_template_body"]
    if body is None:
        raise Refused("Either Template URL or Template Body must be specified.")
    source = template.parse(body)
    template.check(source)
    resources: dict[str, Json] = source["Resources"]
    needed, types = template.capabilities(source)
    return {
        "Description": source.get("Description"),
        "Metadata": json.dumps(source["Metadata"]) if "Metadata" in source else None,
        "Version": source.get("AWSTemplateFormatVersion"),
        "ResourceTypes": [each["Type"] for each in resources.values()],
        "ResourceIdentifierSummaries": _identifiers(resources),
        "Parameters": [_declared(name, each) for name, each in (source.get("Parameters") or {}).items()],
        **_capabilities(needed, types),
    }


def _declared(name: str, definition: Json) -> Json:
    allowed: list[Any] | None = definition.get("AllowedValues")
    return {
        "ParameterKey": name,
        "DefaultValue": text(definition["Default"]) if "Default" in definition else None,
        "ParameterType": definition["Type"],
        "NoEcho": text(definition.get("NoEcho", False)) == "true",
        "Description": definition.get("Description"),
        "ParameterConstraints": {"AllowedValues": [text(each) for each in allowed]} if allowed else {},
    }


def _identifiers(resources: dict[str, Json]) -> list[Json]:
    by_type: dict[str, list[str]] = {}
    for logical_id, definition in resources.items():
        by_type.setdefault(definition["Type"], []).append(logical_id)
    return [{"ResourceType": name, "LogicalResourceIds": ids} for name, ids in by_type.items()]
