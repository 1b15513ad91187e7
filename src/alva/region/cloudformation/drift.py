"""Drift detection: compares the properties that a stack's template sets with the actual ones.

A type without a reader is NOT_CHECKED, as on AWS for a type without support. CloudFormation User Guide, "Detect
unmanaged configuration changes to stacks".
"""

from __future__ import annotations

import inspect
import json
import logging
from dataclasses import dataclass
from typing import Any

from alva.region.cloudformation.drift_comparison import differences
from alva.region.cloudformation.handler_failure import handler_code
from alva.region.cloudformation.registry import Properties, Registry
from alva.region.control_plane import ServiceError

logger = logging.getLogger("alva.cloudformation")

Json = dict[str, Any]


@dataclass(frozen=True)
class Drifted:
    """A resource of a stack that was changed or deleted outside CloudFormation."""

    status: str
    """MODIFIED or DELETED."""
    actual: Properties
    """The actual values of the compared properties."""
    expected: Properties
    """The values that the last deployment set."""


class Drift:
    """Detects the drift of the types that have a reader."""

    def __init__(self, registry: Registry) -> None:
        self._readers = registry.drift

    def is_detected(self, type_name: str) -> bool:
        """Whether drift of a resource type is detected."""
        return type_name in self._readers

    async def is_deleted(self, type_name: str, physical_id: str, properties: Properties) -> bool:
        """Whether a resource was deleted outside its stack; False for a type without drift detection."""
        return type_name in self._readers and await self._read(type_name, physical_id, properties) is None

    async def drifted_resources(self, stack: Json) -> dict[str, Drifted]:
        """The drifted resources by logical id. Resources that cannot be read are left out."""
        found = {}
        for logical_id, record in list((stack.get("_resources") or {}).items()):
            if not self.is_detected(record["ResourceType"]):
                continue
            drift = await self.detect(stack, logical_id, record)
            if drift["StackResourceDriftStatus"] in ("MODIFIED", "DELETED"):
                actual, expected = (json.loads(drift.get(f"{side}Properties", "{}")) for side in ("Actual", "Expected"))
                found[logical_id] = Drifted(drift["StackResourceDriftStatus"], actual, expected)
        return found

    async def detect(self, stack: Json, logical_id: str, record: Json) -> Json:
        """The StackResourceDrift of a resource with drift detection, without its Timestamp."""
        type_name, physical_id = record["ResourceType"], record.get("PhysicalResourceId", "")
        drift = {
            "StackId": stack["StackId"],
            "LogicalResourceId": logical_id,
            "PhysicalResourceId": physical_id,
            "ResourceType": type_name,
        }
        properties = record.get("Properties") or {}
        try:
            current = await self._read(type_name, physical_id, properties)
        except Exception as error:
            logger.warning("cannot read %s (%s) for drift detection", physical_id, type_name, exc_info=True)
            reason = f"Drift detection failed: {error}"
            return {**drift, "StackResourceDriftStatus": "UNKNOWN", "DriftStatusReason": reason}
        if current is None:
            return {**drift, "StackResourceDriftStatus": "DELETED"}
        compared = self._readers[type_name][1]
        expected = {key: value for key, value in properties.items() if key in compared}
        if "Tags" in compared:
            # "CloudFormation also detects drift on stack-level tags" (the guide).
            wanted = {**_tags(stack.get("Tags")), **_tags(expected.pop("Tags", None))}
            is_map = isinstance(properties.get("Tags", current["Tags"]), dict)
            if wanted:
                expected["Tags"], current["Tags"] = (
                    tags if is_map else [{"Key": key, "Value": value} for key, value in tags.items()]
                    for tags in (wanted, _tags(current["Tags"]))
                )
        found = differences(expected, {key: current[key] for key in expected if key in current})
        changed = {each["PropertyPath"].split("/")[1] for each in found}
        # A value that is equal has the template's type: "true" in a template is true in an API.
        actual = {key: current[key] if key in changed else expected[key] for key in expected if key in current}
        return {
            **drift,
            "StackResourceDriftStatus": "MODIFIED" if found else "IN_SYNC",
            "ExpectedProperties": json.dumps(expected, sort_keys=True),
            "ActualProperties": json.dumps(actual, sort_keys=True),
            "PropertyDifferences": found,
        }

    async def _read(self, type_name: str, physical_id: str, properties: Properties) -> Properties | None:
        reader, _ = self._readers[type_name]
        try:
            current = reader(physical_id, properties)
            return await current if inspect.isawaitable(current) else current
        except ServiceError as error:
            if handler_code(error.code) == "NotFound":
                return None
            raise


def _tags(tags: Any) -> dict[str, str]:
    """Tags by key, from either form of a template, without CloudFormation's own."""
    pairs = tags.items() if isinstance(tags, dict) else ((tag["Key"], tag.get("Value", "")) for tag in tags or ())
    return {str(key): str(value) for key, value in pairs if not str(key).startswith("aws:")}
