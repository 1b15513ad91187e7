"""Reads the network's input from EC2's records: VPCs, subnets, routes, security groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from ministack.services import ec2

from alva.region.network.rules import Group, Rule

Json = Mapping[str, Any]


def subnet(subnet_id: str) -> Json | None:
    """A subnet's record; None when there is none."""
    return _all(ec2._subnets).get(subnet_id)


def vpc(vpc_id: str) -> Json | None:
    """A VPC's record; None when there is none."""
    return _all(ec2._vpcs).get(vpc_id)


def has_internet_gateway(vpc_id: str) -> bool:
    """Whether an internet gateway is attached to a VPC."""
    gateways = _all(ec2._internet_gateways).values()
    return any(each["VpcId"] == vpc_id for gateway in gateways for each in gateway.get("Attachments") or ())


def default_group(vpc_id: str) -> str | None:
    """A VPC's default security group."""
    groups = _all(ec2._security_groups).values()
    return next((g["GroupId"] for g in groups if g["VpcId"] == vpc_id and g["GroupName"] == "default"), None)


def security_groups() -> dict[str, Group]:
    """All security groups, by id."""
    return {
        group_id: Group(
            id=group_id,
            ingress=tuple(_rules(group.get("IpPermissions") or ())),
            egress=tuple(_rules(group.get("IpPermissionsEgress") or ())),
        )
        for group_id, group in _all(ec2._security_groups).items()
    }


def reaches(subnet_id: str, address: str, *, is_public: bool) -> bool:
    """Whether the routes of a subnet lead to `address` outside the VPC, and replies return.

    An internet gateway needs a public address (`is_public`). A NAT gateway needs none, but its own subnet must have a
    route to an internet gateway. https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html
    """
    route = _route(subnet_id, address)
    if route is None:
        return False
    if (gateway_id := route.get("GatewayId", "")).startswith("igw-"):
        return is_public and _is_attached(gateway_id)
    gateway = _all(ec2._nat_gateways).get(route.get("NatGatewayId", ""))
    if gateway is None or gateway.get("State") != "available" or gateway["SubnetId"] == subnet_id:
        return False
    return reaches(gateway["SubnetId"], address, is_public=True)


def _route(subnet_id: str, address: str) -> Json | None:
    """The most specific route of the subnet's route table (the VPC's main one, unless it has its own)."""
    record = subnet(subnet_id)
    if record is None:
        return None
    tables = [table for table in _all(ec2._route_tables).values() if table["VpcId"] == record["VpcId"]]

    def associated(key: str, value: object) -> Json | None:
        return next((t for t in tables if any(a.get(key) == value for a in t["Associations"])), None)

    table = associated("SubnetId", subnet_id) or associated("Main", True)
    routes = [
        (IPv4Network(route["DestinationCidrBlock"]).prefixlen, route)
        for route in (table or {}).get("Routes", ())
        if route.get("DestinationCidrBlock") and IPv4Address(address) in IPv4Network(route["DestinationCidrBlock"])
    ]
    return max(routes, key=lambda each: each[0])[1] if routes else None


def _is_attached(gateway_id: str) -> bool:
    gateway = _all(ec2._internet_gateways).get(gateway_id)
    return bool(gateway and gateway.get("Attachments"))


def _rules(permissions: Iterable[Json]) -> Iterable[Rule]:
    for permission in permissions:
        yield Rule(
            protocol=str(permission["IpProtocol"]),
            first_port=_number(permission.get("FromPort")),
            last_port=_number(permission.get("ToPort")),
            cidr_blocks=tuple(each["CidrIp"] for each in permission.get("IpRanges") or () if each.get("CidrIp")),
            group_ids=tuple(
                each["GroupId"] for each in permission.get("UserIdGroupPairs") or () if each.get("GroupId")
            ),
        )


def _number(value: object) -> int | None:
    return None if value is None else int(str(value))


def _all(store: Any) -> dict[str, Any]:
    """Every record of a store by its id. The region has one account, whatever the scope of the running request."""
    return {key[-1]: record for key, record in store.all_items()}
