"""Drift detection of the types that MiniStack cannot read, or reads wrongly.

A type whose properties are not compared here is NOT_CHECKED, as on AWS for a type without support. MiniStack's check
that a resource exists is removed, since it reports IN_SYNC for a changed resource. As on AWS, only properties that the
template sets are compared. CloudFormation User Guide, "Detect unmanaged configuration changes to stacks".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ministack.services import ec2, secretsmanager
from ministack.services.cloudformation import drift as ministack_drift
from ministack.services.cloudformation import provisioners

from alva.region.cloudformation import store

Properties = dict[str, Any]
Reader = Callable[[str, Properties], Properties | None]
"""(physical id, the template's properties) -> the current properties, or None for a deleted resource.
"""

_GROUP = "AWS::EC2::SecurityGroup"
_RULE_PROPERTIES = frozenset({
    "GroupId", "IpProtocol", "FromPort", "ToPort", "CidrIp", "CidrIpv6", "Description",
    "SourceSecurityGroupId", "SourcePrefixListId", "DestinationSecurityGroupId", "DestinationPrefixListId",
})  # fmt: skip


def install() -> None:
    """Register the readers, and remove those of MiniStack that only check whether a resource exists."""
    readers: dict[str, tuple[Reader, frozenset[str]]] = ministack_drift._DRIFT_READERS
    for type_name in [name for name, (_, properties) in readers.items() if not properties]:
        del readers[type_name]
    register(
        _GROUP,
        _read_group,
        {"GroupDescription", "GroupName", "VpcId", "SecurityGroupIngress", "SecurityGroupEgress", "Tags"},
    )
    register(f"{_GROUP}Ingress", _rule_reader("Source", "IpPermissions"), set(_RULE_PROPERTIES))
    register(f"{_GROUP}Egress", _rule_reader("Destination", "IpPermissionsEgress"), set(_RULE_PROPERTIES))
    register("AWS::SecretsManager::Secret", _read_secret, {"Name", "Description", "KmsKeyId", "Tags"})


def register(type_name: str, reader: Reader, properties: set[str]) -> None:
    """Detect drift of a resource type, in these properties."""
    ministack_drift._DRIFT_READERS[type_name] = (reader, frozenset(properties))


def is_detected(type_name: str) -> bool:
    """Whether drift of a resource type is detected."""
    return bool(ministack_drift.supports_drift(type_name))


def compared_properties() -> dict[str, list[str]]:
    """By resource type, the properties whose drift is detected."""
    return {name: sorted(properties) for name, (_, properties) in ministack_drift._DRIFT_READERS.items()}


@dataclass(frozen=True)
class Drifted:
    """A resource of a stack that was changed or deleted outside CloudFormation."""

    status: str
    """MODIFIED or DELETED."""
    actual: Properties
    """The actual values of the compared properties."""
    expected: Properties
    """The values that the last deployment set."""


def drifted_resources(stack: dict[str, Any]) -> dict[str, Drifted]:
    """The drifted resources by logical id. Resources that cannot be read are left out."""
    found = {}
    for logical_id, record in (stack.get("_resources") or {}).items():
        if not ministack_drift.supports_drift(record.get("ResourceType", "")):
            continue
        drift = ministack_drift.detect_resource_drift(stack, logical_id, record, "")
        if drift["StackResourceDriftStatus"] in ("MODIFIED", "DELETED"):
            actual, expected = (json.loads(drift.get(f"{side}Properties", "{}")) for side in ("Actual", "Expected"))
            found[logical_id] = Drifted(drift["StackResourceDriftStatus"], actual, expected)
    return found


def rules_of(permissions: list[dict[str, Any]], side: str) -> list[Properties]:
    """A group's permissions as rules of a template, one for each source (`side` is Source or Destination)."""
    rules = []
    for permission in permissions:
        common: Properties = {key: permission[key] for key in ("IpProtocol", "FromPort", "ToPort") if key in permission}
        for key, name, content in (
            ("IpRanges", "CidrIp", "CidrIp"),
            ("Ipv6Ranges", "CidrIpv6", "CidrIpv6"),
            ("PrefixListIds", f"{side}PrefixListId", "PrefixListId"),
            ("UserIdGroupPairs", f"{side}SecurityGroupId", "GroupId"),
        ):
            for entry in permission.get(key) or ():
                described = {"Description": entry["Description"]} if entry.get("Description") else {}
                rules.append({**common, name: entry.get(content), **described})
    return rules


def _read_group(group_id: str, properties: Properties) -> Properties | None:
    group = ec2._security_groups.get(group_id)
    if group is None:
        return None
    return {
        "GroupDescription": group["Description"],
        "GroupName": group["GroupName"],
        "VpcId": group["VpcId"],
        "SecurityGroupIngress": _inline_rules(group_id, properties, "Ingress", "Source", group["IpPermissions"]),
        "SecurityGroupEgress": _inline_rules(
            group_id, properties, "Egress", "Destination", group["IpPermissionsEgress"]
        ),
        "Tags": provisioners._tag_map(ec2._tags.get(group_id) or []),
    }


def _inline_rules(
    group_id: str, properties: Properties, direction: str, side: str, permissions: list[dict[str, Any]]
) -> list[Properties]:
    """The rules of a group, without those that are separate resources in the same stack.

    AWS leaves out such attachments too, within a stack and not across stacks ("Resource attachments" of the guide).
    """
    attached = [_comparable(rule, side) for rule in _attached_rules(group_id, f"{_GROUP}{direction}")]
    rules = [rule for rule in rules_of(permissions, side) if _comparable(rule, side) not in attached]
    # The owner of a source group, and descriptions that the template does not set, are not compared.
    wanted = properties.get(f"SecurityGroup{direction}") or []
    owners = {
        _comparable(rule, side): {key: rule[key] for key in (f"{side}SecurityGroupOwnerId",) if key in rule}
        for rule in wanted
    }
    return [{**rule, **owners.get(_comparable(rule, side), {})} for rule in rules]


def _attached_rules(group_id: str, type_name: str) -> list[Properties]:
    for stack in store.all_stacks():
        resources = stack.get("_resources") or {}
        if any(
            record.get("PhysicalResourceId") == group_id and record.get("ResourceType") == _GROUP
            for record in resources.values()
        ):
            return [
                record["Properties"]
                for record in resources.values()
                if record.get("ResourceType") == type_name and record["Properties"].get("GroupId") == group_id
            ]
    return []


def _rule_reader(side: str, permissions_key: str) -> Reader:
    def read(rule_id: str, properties: Properties) -> Properties | None:
        del rule_id  # EC2's rule ids are derived from the content here, so a rule is found by its content.
        group = ec2._security_groups.get(properties.get("GroupId", ""))
        wanted = _comparable(properties, side)
        for rule in rules_of(group[permissions_key], side) if group else ():
            if _comparable(rule, side) == wanted:
                return {**rule, "GroupId": properties["GroupId"]}
        return None

    return read


def _comparable(rule: Properties, side: str) -> tuple[str, ...]:
    """The members of a rule that identify it: all but the description."""
    names = (
        "IpProtocol", "FromPort", "ToPort", "CidrIp", "CidrIpv6", f"{side}PrefixListId", f"{side}SecurityGroupId",
    )  # fmt: skip
    return tuple(str(rule.get(name, "")) for name in names)


def _read_secret(arn: str, properties: Properties) -> Properties | None:
    del properties
    _, secret = secretsmanager._resolve(arn)
    if secret is None or secret.get("DeletedDate"):
        return None
    return {
        "Name": secret["Name"],
        "Description": secret.get("Description") or "",
        "KmsKeyId": secret.get("KmsKeyId"),
        "Tags": provisioners._tag_map(secret.get("Tags") or []),
    }
