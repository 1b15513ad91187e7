"""Security groups as sets of rules, from inline rules and separate rule resources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from alva.checks.assembly import Assembly, Reference, Resource

ALL_PORTS = (0, 65535)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: TCP on `first` to `last`, for a group's members or a network's addresses."""

    first: int
    last: int
    group: Reference | None
    network: IPv4Network | None

    def admits_port(self, port: int) -> bool:
        return self.first <= port <= self.last

    @property
    def admits_everybody(self) -> bool:
        return self.network is not None and self.network.prefixlen == 0


@dataclass(frozen=True, kw_only=True)
class SecurityGroup:
    """A group with all its rules."""

    resource: Resource
    ingress: tuple[Rule, ...]
    egress: tuple[Rule, ...]


def security_groups(assembly: Assembly) -> dict[Reference, SecurityGroup]:
    """Return all security groups, by their `Ref`."""
    return {
        each.reference: SecurityGroup(
            resource=each,
            ingress=tuple(_rules(assembly, each, "Ingress", "Source")),
            egress=tuple(_rules(assembly, each, "Egress", "Destination")),
        )
        for each in assembly.of_type("EC2::SecurityGroup")
    }


def _rules(assembly: Assembly, group: Resource, direction: str, peer: str) -> Iterator[Rule]:
    inline = group.properties.get(f"SecurityGroup{direction}", [])
    apart = [
        each.properties
        for each in assembly.of_type(f"EC2::SecurityGroup{direction}")
        if assembly.target(each.properties["GroupId"]) == group
    ]
    rules = [*inline, *apart]
    if direction == "Egress" and not rules:
        # Without an egress rule, AWS adds one that allows everything.
        rules = [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}]
    for rule in rules:
        parsed = _rule(assembly, rule, f"{peer}SecurityGroupId")
        if parsed is not None:
            yield parsed


def _rule(assembly: Assembly, rule: Mapping[str, Any], peer: str) -> Rule | None:
    protocol = str(rule["IpProtocol"])
    if protocol not in ("-1", "tcp", "6"):
        return None
    first, last = ALL_PORTS if protocol == "-1" else (int(rule["FromPort"]), int(rule["ToPort"]))
    group = assembly.target(rule.get(peer))
    return Rule(
        first=first,
        last=last,
        group=group.reference if group else None,
        network=IPv4Network(rule["CidrIp"]) if "CidrIp" in rule else None,
    )
