"""Computes nftables rules from security groups, routes and network interfaces. Pure.

A connection needs three permissions: an outbound rule of the source's security groups, a route to the destination, and
an inbound rule of the destination's security groups. Each sets a bit of the packet's mark; a packet with all three bits
is accepted. Other packets are dropped, so that connections time out, as on AWS. Replies are accepted, since security
groups are stateful, and an open connection remains when its rule is removed ("tracked connections").
https://docs.aws.amazon.com/vpc/latest/userguide/security-group-connection-tracking.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

TABLE = "region"
_MAY_LEAVE, _HAS_ROUTE, _MAY_ENTER = 1, 2, 4
_PROTOCOLS = {"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6"}


@dataclass(frozen=True, kw_only=True)
class Member:
    """A network interface with its groups and routes."""

    address: str
    vpc_id: str
    group_ids: tuple[str, ...]
    reaches_outside: bool
    """Whether its subnet has a route to the internet, in both directions."""
    managed_ports: tuple[int, ...] = ()
    """Ports that the region, and interfaces with the same port, reach without a security group's rule."""
    hidden_ports: tuple[int, ...] = ()
    """Ports that exist here and not on AWS."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of a security group. Peers are CIDR blocks and groups; no ports means all ports."""

    protocol: str
    """`tcp`, `udp`, `icmp`, `-1` for all, or a number."""
    first_port: int | None = None
    last_port: int | None = None
    cidr_blocks: tuple[str, ...] = ()
    group_ids: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Group:
    """A security group."""

    id: str
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outside:
    """The addresses outside the VPCs, and their ports that exist here and not on AWS."""

    addresses: tuple[str, ...] = ()
    hidden_ports: tuple[int, ...] = field(default=())


def ruleset(
    members: Sequence[Member],
    groups: Mapping[str, Group],
    outside: Outside,
    open_to_all: Sequence[tuple[str, int]] = (),
    *,
    region_address: str = "",
) -> str:
    """The input of `nft -f`, which replaces all rules in one transaction.

    A group that does not exist has no members and admits nothing. `open_to_all` are addresses and ports that every
    member reaches (AWS's link-local ones). `region_address` is the source of the region's own connections.
    """
    used = [
        groups[group_id] for group_id in sorted({each for m in members for each in m.group_ids}) if group_id in groups
    ]
    lines = [
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        *_address_set("outside", outside.addresses),
        *_address_set("to_outside", (m.address for m in members if m.reaches_outside)),
    ]
    for vpc_id in sorted({m.vpc_id for m in members}):
        lines += _address_set(_set_name(vpc_id), (m.address for m in members if m.vpc_id == vpc_id))
    for group_id in sorted({group.id for group in used} | set(_named_groups(used))):
        lines += _address_set(_set_name(group_id), (m.address for m in members if group_id in m.group_ids))
    lines += [
        "chain forward {",
        "type filter hook forward priority filter; policy drop;",
        "ct state established,related accept",
        "ct state invalid drop",
        # Names are in each task's hosts file. DNS queries are rejected, so that they fail at once.
        "udp dport 53 reject",
        *(f"ip daddr {address} tcp dport {port} accept" for address, port in open_to_all),
        *_managed(members, region_address),
        *_hidden(members, outside),
        "meta mark set 0",
        "jump out_of_groups",
        "jump along_routes",
        "jump into_groups",
        f"meta mark {_MAY_LEAVE | _HAS_ROUTE | _MAY_ENTER} accept",
        "}",
        "chain out_of_groups {",
        *(
            line
            for group in used
            for rule in group.egress
            for line in _lines(group, rule, "saddr", "daddr", _MAY_LEAVE)
        ),
        "}",
        "chain along_routes {",
    ]
    for vpc_id in sorted({m.vpc_id for m in members}):
        # A VPC's local route cannot be removed. There is no route between VPCs.
        name = _set_name(vpc_id)
        lines.append(f"ip saddr @{name} ip daddr @{name} {_set_bit(_HAS_ROUTE)}")
    lines += [
        f"ip saddr @to_outside ip daddr @outside {_set_bit(_HAS_ROUTE)}",
        "}",
        "chain into_groups {",
        *(
            line
            for group in used
            for rule in group.ingress
            for line in _lines(group, rule, "daddr", "saddr", _MAY_ENTER)
        ),
        f"ip daddr @outside {_set_bit(_MAY_ENTER)}",
        "}",
        "}",
    ]
    return "".join(line + "\n" for line in lines)


def _lines(group: Group, rule: Rule, own: str, peer: str, bit: int) -> Iterator[str]:
    """A rule as nftables rules, one per peer. `own` and `peer` are the sides of the packet, saddr or daddr."""
    what = _traffic(rule)
    if what is None:
        return
    start = f"ip {own} @{_set_name(group.id)}"
    for block in rule.cidr_blocks:
        where = "" if block.endswith("/0") else f"ip {peer} {block}"
        yield " ".join(part for part in (start, where, what, _set_bit(bit)) if part)
    for group_id in rule.group_ids:
        yield " ".join(part for part in (start, f"ip {peer} @{_set_name(group_id)}", what, _set_bit(bit)) if part)


def _traffic(rule: Rule) -> str | None:
    """A rule's protocol and ports in nftables' syntax; None for a protocol that IPv4 does not have."""
    protocol = _PROTOCOLS.get(rule.protocol, rule.protocol)
    if protocol == "-1":
        return ""
    if protocol in ("tcp", "udp"):
        if rule.first_port in (None, -1, 0) and rule.last_port in (None, -1, 65535):
            return f"meta l4proto {protocol}"
        return f"{protocol} dport {rule.first_port}-{rule.last_port}"
    if protocol == "icmp":
        # FromPort and ToPort are the type and the code; -1 is any.
        if rule.first_port in (None, -1):
            return "meta l4proto icmp"
        code = "" if rule.last_port in (None, -1) else f" icmp code {rule.last_port}"
        return f"icmp type {rule.first_port}{code}"
    return None if protocol == "icmpv6" else f"meta l4proto {protocol}"


def _managed(members: Sequence[Member], region_address: str) -> Iterator[str]:
    for port in sorted({port for member in members for port in member.managed_ports}):
        having = [member.address for member in members if port in member.managed_ports]
        sources = ", ".join(sorted({*having, *([region_address] if region_address else [])}))
        yield f"ip saddr {{ {sources} }} ip daddr {{ {', '.join(having)} }} tcp dport {port} accept"


def _hidden(members: Iterable[Member], outside: Outside) -> Iterator[str]:
    for member in members:
        for port in member.hidden_ports:
            yield f"ip daddr {member.address} tcp dport {port} drop"
    for port in outside.hidden_ports:
        yield f"ip daddr @outside tcp dport {port} drop"


def _named_groups(groups: Iterable[Group]) -> Iterator[str]:
    """The groups that are peers in any rule."""
    for group in groups:
        for rule in (*group.ingress, *group.egress):
            yield from rule.group_ids


def _address_set(name: str, addresses: Iterable[str]) -> list[str]:
    elements = ", ".join(sorted(set(addresses)))
    return [f"set {name} {{", "type ipv4_addr;", *([f"elements = {{ {elements} }}"] if elements else []), "}"]


def _set_name(resource_id: str) -> str:
    """The name of a set, which can contain letters, digits and underscores."""
    return "of_" + "".join(character if character.isalnum() else "_" for character in resource_id)


def _set_bit(bit: int) -> str:
    return f"meta mark set meta mark or {bit}"
