"""Expand, move, contract: what the running version needs stays until nothing runs that needs it.

A stack around the services first gets its new template and, in addition, whatever only its former template has
(`expanded`). The services move. What is left over goes once the new version has verified. CloudFormation does the same
within one stack: it creates and updates first, and removes in a clean-up at the end (CloudFormation User Guide,
"Understand update behaviors of stack resources"); here the clean-up waits for the services.
docs/decisions/expand-move-contract.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Template = Mapping[str, Any]

SECTIONS = ("Parameters", "Mappings", "Conditions", "Resources", "Outputs")
"""The sections of a template whose entries are kept side by side."""

RULES = ("SecurityGroupIngress", "SecurityGroupEgress")
"""Lists of a security group that allow what they name: both versions' entries can stand together."""


def expanded(template: Template, former: Template) -> dict[str, Any]:
    """`template`, and everything beside it that only `former` has.

    Where both have a resource, `template` decides, except that a security group keeps the rules of both.
    """
    merged = dict(template)
    for section in SECTIONS:
        own, kept = template.get(section, {}), former.get(section, {})
        if additional := {name: each for name, each in kept.items() if name not in own}:
            merged[section] = {**own, **additional}
    if "Resources" in merged:
        resources = former.get("Resources", {})
        merged["Resources"] = {
            name: _with_rules(each, resources[name]) if name in resources else each
            for name, each in merged["Resources"].items()
        }
    return merged


def holds(template: Template, needed: Template) -> bool:
    """Whether `template` has every resource and output of `needed` as it is there, and possibly more."""
    return _keyed(expanded(needed, template)) == _keyed(template)


def left_over(template: Template, former: Template) -> tuple[str, ...]:
    """The logical ids of what `former` has and `template` does not, sorted: what a contraction removes.

    A security group is named when only some of its rules go.
    """
    own, kept = template.get("Resources", {}), former.get("Resources", {})
    return tuple(
        sorted(name for name, each in kept.items() if name not in own or _with_rules(own[name], each) != own[name])
    )


def _with_rules(resource: Mapping[str, Any], former: Mapping[str, Any]) -> Mapping[str, Any]:
    properties, had = resource.get("Properties", {}), former.get("Properties", {})
    if resource.get("Type") != "AWS::EC2::SecurityGroup" or former.get("Type") != resource["Type"]:
        return resource
    rules = {}
    for key in RULES:
        own = properties.get(key, [])
        if additional := [rule for rule in had.get(key, []) if rule not in own]:
            rules[key] = [*own, *additional]
    return {**resource, "Properties": {**properties, **rules}} if rules else resource


def _keyed(template: Template) -> dict[str, Any]:
    """The compared sections, with the rules of security groups in one order."""
    sections = {section: dict(template.get(section, {})) for section in SECTIONS}
    for name, resource in sections["Resources"].items():
        if resource.get("Type") == "AWS::EC2::SecurityGroup":
            properties = dict(resource.get("Properties", {}))
            for key in RULES:
                if key in properties:
                    properties[key] = sorted(properties[key], key=str)
            sections["Resources"][name] = {**resource, "Properties": properties}
    return sections
