"""Checks the deployed security groups: the internet may reach the load balancer only."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from alva.aws import Aws, explained, pages
from alva.release.manifest import Manifest

INNER_BLOCKS = tuple(
    ipaddress.ip_network(block)
    for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
"""Private addresses, which no packet from the internet has (RFC 1918, RFC 6598, RFC 4193)."""


def public_rules(aws: Aws, manifest: Manifest) -> tuple[int, list[str]]:
    """Return the number of security groups in the load balancer's VPC, and the rules that admit the internet elsewhere.

    A template rule checks the same before a release; this finds later manual changes. Raises AlvaError.
    """
    with explained("read the load balancer"):
        load_balancer = aws.elbv2.describe_load_balancers(Names=[manifest.load_balancer])["LoadBalancers"][0]
    with explained("read the security groups"):
        groups = list(
            pages(
                aws.ec2,
                "describe_security_groups",
                "SecurityGroups",
                Filters=[{"Name": "vpc-id", "Values": [load_balancer["VpcId"]]}],
            )
        )
    return len(groups), list(_open_ways(groups, besides=load_balancer.get("SecurityGroups", [])))


def _open_ways(groups: Iterable[Mapping[str, Any]], *, besides: Iterable[str]) -> Iterable[str]:
    for group in groups:
        if group["GroupId"] in besides:
            continue
        for permission in group["IpPermissions"]:
            blocks = [each["CidrIp"] for each in permission.get("IpRanges", [])]
            blocks += [each["CidrIpv6"] for each in permission.get("Ipv6Ranges", [])]
            for block in blocks:
                if not _is_inner(block):
                    yield f"{group.get('GroupName', group['GroupId'])} admits {block} on {_ports(permission)}"


def _is_inner(block: str) -> bool:
    network = ipaddress.ip_network(block, strict=False)
    return any(
        network.subnet_of(inner)  # type: ignore[arg-type]  # both are of one version here
        for inner in INNER_BLOCKS
        if inner.version == network.version
    )


def _ports(permission: Mapping[str, Any]) -> str:
    if permission["IpProtocol"] == "-1":
        return "every port"
    first, last = permission.get("FromPort"), permission.get("ToPort")
    return f"{permission['IpProtocol']} {first}" if first == last else f"{permission['IpProtocol']} {first}-{last}"
