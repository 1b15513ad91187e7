"""Expand, move, contract: a release removes what the running version needs only after that version has stopped.

A stack around the services first gets its new template plus everything that only its former template has (`expanded`).
Then the services move. The leftovers are removed when the new version has verified. Within one stack, CloudFormation
does the same: it creates and updates first, and removes in a clean-up phase (CloudFormation User Guide, "Understand
update behaviors of stack resources"). Here, the clean-up waits for the services. See
docs/decisions/expand-move-contract.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Template = Mapping[str, Any]

SECTIONS = ("Parameters", "Mappings", "Conditions", "Resources", "Outputs")
"""The sections of a template that are merged entry by entry."""

RULES = ("SecurityGroupIngress", "SecurityGroupEgress")
"""The rule lists of a security group: the rules of both versions can be merged."""


def expanded(template: Template, former: Template) -> dict[str, Any]:
    """Return `template` plus everything that only `former` has.

    For a resource in both, `template` wins, but a security group keeps the rules of both.
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
    """Whether `template` contains every resource and output of `needed`, unchanged."""
    return _keyed(expanded(needed, template)) == _keyed(template)


def left_over(template: Template, former: Template) -> tuple[str, ...]:
    """Return the sorted logical ids that only `former` has: the clean-up removes them.

    A security group is listed when only some of its rules are removed.
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
    """Return the compared sections, with the rules of security groups sorted."""
    sections = {section: dict(template.get(section, {})) for section in SECTIONS}
    for name, resource in sections["Resources"].items():
        if resource.get("Type") == "AWS::EC2::SecurityGroup":
            properties = dict(resource.get("Properties", {}))
            for key in RULES:
                if key in properties:
                    properties[key] = sorted(properties[key], key=str)
            sections["Resources"][name] = {**resource, "Properties": properties}
    return sections
