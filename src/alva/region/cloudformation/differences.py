"""The changes that a change set describes: which resources are added, modified, replaced or removed, why, and their
values.

The forms were recorded from AWS (`tests/region/aws_facts/cloudformation.json`).
https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ResourceChange.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from alva.region.cloudformation import template
from alva.region.cloudformation.drift import Drifted
from alva.region.cloudformation.intrinsics import KNOWN_AFTER_APPLY, Json, Scope, references, text
from alva.region.cloudformation.replacement import recreation

# Attributes, beside the properties, whose change is listed.
ATTRIBUTES = ("Metadata", "CreationPolicy", "UpdatePolicy", "DeletionPolicy", "UpdateReplacePolicy")
_UNTAGGED_TYPES = (
    "AWS::CDK::Metadata",
    "AWS::CloudFormation::CustomResource",
    "AWS::CloudFormation::WaitCondition",
    "AWS::CloudFormation::WaitConditionHandle",
)
_POLICY_ACTIONS = {"Delete": "Delete", "Retain": "Retain", "RetainExceptOnCreate": "Retain", "Snapshot": "Snapshot"}


@dataclass(frozen=True)
class Side:
    """The stack's template before or after the change set."""

    source: Json
    scope: Scope

    @property
    def resources(self) -> Json:
        """The definitions of the resources whose condition holds."""
        return template.active(self.source.get("Resources") or {}, self.scope.conditions)

    def properties(self, logical_id: str, unknown: Callable[[str], str], records: Mapping[str, Json]) -> Json:
        """A resource's properties, with placeholders for values that do not exist yet."""
        scope = replace(self.scope, unknown=unknown, resources=records)
        resolved: Json = scope.resolve(self.resources[logical_id].get("Properties") or {})
        return resolved

    def context(self, logical_id: str, records: Mapping[str, Json]) -> Json:
        """The resource's context in a change set; values of NoEcho parameters are hidden."""
        hidden = {
            name: {**each, "Value": "****"} if each["NoEcho"] else each for name, each in self.scope.parameters.items()
        }
        shown = Side(self.source, replace(self.scope, parameters=hidden))
        definition = self.resources[logical_id]
        properties = shown.properties(logical_id, lambda _: KNOWN_AFTER_APPLY, records)
        return {"Properties": properties, **{key: definition[key] for key in ATTRIBUTES if key in definition}}


def changes(
    before: Side, after: Side, records: Mapping[str, Json], retagged: Collection[str] = ()
) -> tuple[list[Json], list[Json]]:
    """The changes in the order of the logical ids, once as DescribeChangeSet shows them and once with values.

    `records` are the stack's resources, `retagged` those whose stack tags change.
    """
    old, new = before.resources, after.resources
    details = _details(before, after)
    plain: list[Json] = []
    for logical_id in sorted({*old, *new}):
        physical_id = records.get(logical_id, {}).get("PhysicalResourceId")
        definition: Json = new[logical_id] if logical_id in new else old[logical_id]
        change: Json = {"LogicalResourceId": logical_id, "ResourceType": definition["Type"], "Scope": [], "Details": []}
        if physical_id:
            change["PhysicalResourceId"] = physical_id
        if logical_id not in old:
            change["Action"] = "Add"
        elif logical_id not in new:
            change.update(Action="Remove", **_policy_action(old[logical_id], "DeletionPolicy"))
        else:
            is_retagged = logical_id in retagged and not _is_untagged(definition["Type"])
            of_type = old[logical_id]["Type"] != definition["Type"]
            if not (details[logical_id] or is_retagged or of_type):
                continue
            change.update(_modification(definition, details[logical_id], of_type=of_type, is_retagged=is_retagged))
        plain.append(change)
    return plain, _with_values(plain, before, after, records)


def with_drift(
    listed: list[Json],
    after: Side,
    records: Mapping[str, Json],
    drifted: Mapping[str, Drifted],
    is_detected: Callable[[str], bool],
) -> list[Json]:
    """The changes of a drift-aware change set (DeploymentMode REVERT_DRIFT): drifted properties are reverted too.

    `is_detected` tells whether drift of a resource type is detected.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/drift-aware-change-sets.html
    """
    by_name = {each["LogicalResourceId"]: each for each in listed}
    for logical_id, found in drifted.items():
        if logical_id not in after.resources:
            continue
        definition = after.resources[logical_id]
        change: Json = {"LogicalResourceId": logical_id, "ResourceType": definition["Type"], "Scope": [], "Details": []}
        if found.status == "DELETED":
            change["Action"] = "Add"
        else:
            change["PhysicalResourceId"] = records[logical_id]["PhysicalResourceId"]
            wanted = after.properties(logical_id, lambda _: KNOWN_AFTER_APPLY, records)
            details = [
                _reverted(definition["Type"], name, found, wanted)
                for name in sorted(found.expected)
                if found.expected[name] != found.actual.get(name)
            ]
            is_as_wanted = all(each["Target"]["AttributeChangeType"] == "SyncWithActual" for each in details)
            known = by_name.get(logical_id, {"Scope": [], "Details": []})
            others = [each for each in known["Details"] if each["Target"].get("Name") not in found.expected]
            change |= _modification(definition, [*details, *others], of_type=False, is_retagged=False)
            if is_as_wanted and not others:
                change["Action"] = "SyncWithActual"
        by_name[logical_id] = change
    for name, change in by_name.items():
        if change["Action"] != "Add" or name in drifted:
            is_read = is_detected(change["ResourceType"])
            change["ResourceDriftStatus"] = (
                drifted[name].status if name in drifted else "IN_SYNC" if is_read else "UNSUPPORTED"
            )
    return [by_name[name] for name in sorted(by_name)]


def _reverted(resource_type: str, name: str, found: Drifted, wanted: Json) -> Json:
    """The detail of a drifted property: its present value, the last deployment's value, and the new value."""
    is_wanted = wanted.get(name) == found.actual.get(name)
    target = {
        "Attribute": "Properties",
        "Name": name,
        "RequiresRecreation": recreation(resource_type, name),
        "Path": f"/Properties/{name}",
        "AttributeChangeType": "SyncWithActual" if is_wanted else "Modify" if name in found.actual else "Add",
        "Drift": {
            "PreviousValue": json.dumps(found.expected[name]),
            "ActualValue": json.dumps(found.actual.get(name)),
        },
    }
    return _detail(target, "Static", "DirectModification")


def _modification(definition: Json, details: list[Json], *, of_type: bool, is_retagged: bool) -> Json:
    replacement = _replacement(details, of_type=of_type)
    scope = list(dict.fromkeys(detail["Target"]["Attribute"] for detail in details))
    if is_retagged:
        # AWS lists this detail first and its scope last, without a ChangeSource (recorded).
        tags = {"Target": {"Attribute": "Tags", "RequiresRecreation": "Never"}, "Evaluation": "Static"}
        details, scope = [tags, *details], [*scope, "Tags"]
    policy = _policy_action(definition, "UpdateReplacePolicy", "ReplaceAnd") if replacement == "True" else {}
    return {"Action": "Modify", "Replacement": replacement, **policy, "Scope": scope, "Details": details}


def _replacement(details: list[Json], *, of_type: bool) -> str:
    required = {(each["Target"]["RequiresRecreation"], each["Evaluation"]) for each in details}
    if of_type or ("Always", "Static") in required:
        return "True"
    return "Conditional" if any(each != "Never" for each, _ in required) else "False"


def _policy_action(definition: Json, attribute: str, prefix: str = "") -> Json:
    default = "Delete"
    if definition["Type"] == "AWS::RDS::DBInstance" and attribute == "DeletionPolicy":
        default = "Snapshot"
    policy = definition.get(attribute, default)
    action = _POLICY_ACTIONS.get(policy) if isinstance(policy, str) else None
    return {"PolicyAction": f"{prefix}{action}"} if action else {}


def _is_untagged(resource_type: str) -> bool:
    return resource_type.startswith("Custom::") or resource_type in _UNTAGGED_TYPES


def _details(before: Side, after: Side) -> dict[str, list[Json]]:
    """The details of every remaining resource; a change also affects resources that refer to the changed one."""
    old, new = before.resources, after.resources
    common = sorted(old.keys() & new.keys())
    values = {name: tuple(side.properties(name, _as_written, {}) for side in (before, after)) for name in common}
    direct = {
        name: {key for key in {*one, *other} if one.get(key) != other.get(key)} for name, (one, other) in values.items()
    }
    attributes = {
        name: [
            _detail({"Attribute": attribute, "RequiresRecreation": "Never"}, "Static", "DirectModification")
            for attribute in ATTRIBUTES
            if old[name].get(attribute) != new[name].get(attribute)
        ]
        for name in common
    }
    changed = {
        name
        for name, each in after.scope.parameters.items()
        if before.scope.parameters.get(name, {}).get("Value") != each["Value"]
    }
    replacements: dict[str, str] = {}
    while True:
        found = {
            name: [*_property_details(new[name], direct[name], changed, replacements), *attributes[name]]
            for name in common
        }
        spread = {
            name: _replacement(details, of_type=old[name]["Type"] != new[name]["Type"])
            for name, details in found.items()
            if details or old[name]["Type"] != new[name]["Type"]
        }
        if spread == replacements:
            return found
        replacements = spread


def _as_written(reference: str) -> str:
    return f"${{{reference}}}"


def _property_details(
    definition: Json, direct: set[str], changed: set[str], replacements: Mapping[str, str]
) -> list[Json]:
    properties: Json = definition.get("Properties") or {}
    details: list[Json] = []
    for name in sorted({*properties, *direct}):
        required = recreation(definition["Type"], name)
        target = {"Attribute": "Properties", "Name": name, "RequiresRecreation": required}
        causes: list[Json] = []
        for entity, attribute in references(properties.get(name)):
            if attribute is None and entity in changed:
                cause = _detail(target, "Static", "ParameterReference", entity)
            elif entity in replacements and (attribute or replacements[entity] != "False"):
                evaluation = "Static" if replacements[entity] == "True" else "Dynamic"
                source = "ResourceAttribute" if attribute else "ResourceReference"
                cause = _detail(target, evaluation, source, f"{entity}.{attribute}" if attribute else entity)
            else:
                continue
            if cause not in causes:
                causes.append(cause)
        if name in direct:
            details.append(_detail(target, "Dynamic" if causes else "Static", "DirectModification"))
        details += causes
    return details


def _detail(target: Json, evaluation: str, source: str, entity: str = "") -> Json:
    detail = {"Target": target, "Evaluation": evaluation, "ChangeSource": source}
    return {**detail, "CausingEntity": entity} if entity else detail


def _with_values(plain: list[Json], before: Side, after: Side, records: Mapping[str, Json]) -> list[Json]:
    """The changes with values. A reference to a resource that is modified in place is not listed: its value stays."""
    replaced = {each["LogicalResourceId"] for each in plain if each.get("Replacement") == "True"}
    staying = {name: each for name, each in records.items() if name not in replaced}
    result = []
    for change in plain:
        name, shown = change["LogicalResourceId"], dict(change)
        old = before.context(name, records) if change["Action"] != "Add" else {}
        new = after.context(name, staying) if change["Action"] != "Remove" else {}
        if old:
            shown["BeforeContext"] = json.dumps(old)
        if new:
            shown["AfterContext"] = json.dumps(new)
        if change["Action"] == "Modify":
            shown["Details"] = _details_with_values(change["Details"], old["Properties"], new["Properties"])
            if not shown["Details"]:
                continue
        result.append(shown)
    return result


def _details_with_values(details: list[Json], old: Json, new: Json) -> list[Json]:
    direct = {each["Target"].get("Name") for each in details if each.get("ChangeSource") == "DirectModification"}
    result: list[Json] = []
    for detail in details:
        target = detail["Target"]
        name = target.get("Name")
        if detail["Evaluation"] == "Dynamic" and detail["ChangeSource"] != "DirectModification":
            continue
        if name is None:
            result.append(detail)
            continue
        values: Json = {"Path": f"/Properties/{name}"}
        values["AttributeChangeType"] = "Modify" if name in old and name in new else "Add" if name in new else "Remove"
        values |= {
            key: value
            if isinstance(value, str)
            else json.dumps(value)
            if isinstance(value, dict | list)
            else text(value)
            for key, side in (("BeforeValue", old), ("AfterValue", new))
            if (value := side.get(name)) is not None
        }
        valued = {**detail, "Target": {**target, **values}}
        if name not in direct and values.get("BeforeValue") != values.get("AfterValue"):
            # Its value changes, or does not exist yet.
            if detail["ChangeSource"] != "ParameterReference":
                result.append({**_detail(valued["Target"], "Dynamic", "DirectModification")})
            direct.add(name)
        result.append(valued)
    return result
