"""Reads the network's input from EC2: VPCs, subnets, routes, security groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from alva.region.control_plane import ControlPlane
from alva.region.network.rules import Group, Rule

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class VpcRecords:
    """EC2's records of an account in a region at one time, by id, as its Describe calls return them."""

    vpcs: Mapping[str, Json]
    subnets: Mapping[str, Json]
    internet_gateways: Mapping[str, Json]
    nat_gateways: Mapping[str, Json]
    route_tables: Mapping[str, Json]
    security_groups: Mapping[str, Json]

    def has_internet_gateway(self, vpc_id: str) -> bool:
        """Whether an internet gateway is attached to a VPC."""
        return any(
            each["VpcId"] == vpc_id for gateway in self.internet_gateways.values() for each in gateway["Attachments"]
        )

    def default_group(self, vpc_id: str) -> str | None:
        """A VPC's default security group."""
        groups = self.security_groups.values()
        return next((g["GroupId"] for g in groups if g["VpcId"] == vpc_id and g["GroupName"] == "default"), None)

    @property
    def groups(self) -> dict[str, Group]:
        """The rules of all security groups, by the group's id."""
        return _groups(self.security_groups.values())

    def reaches(self, subnet_id: str, address: str, *, is_public: bool) -> bool:
        """Whether the routes of a subnet lead to `address` outside the VPC, and replies return.

        An internet gateway needs a public address (`is_public`). A NAT gateway needs none, but its own subnet must have
        a route to an internet gateway. https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html
        """
        route = self._route(subnet_id, address)
        if route is None:
            return False
        if (gateway_id := route.get("GatewayId", "")).startswith("igw-"):
            return is_public and bool(self.internet_gateways.get(gateway_id, {}).get("Attachments"))
        gateway = self.nat_gateways.get(route.get("NatGatewayId", ""))
        if gateway is None or gateway.get("State") != "available" or gateway["SubnetId"] == subnet_id:
            return False
        return self.reaches(gateway["SubnetId"], address, is_public=True)

    def _route(self, subnet_id: str, address: str) -> Json | None:
        """The most specific route of the subnet's route table (the VPC's main one, unless it has its own)."""
        if (subnet := self.subnets.get(subnet_id)) is None:
            return None
        tables = [table for table in self.route_tables.values() if table["VpcId"] == subnet["VpcId"]]

        def associated(key: str, value: object) -> Json | None:
            return next((t for t in tables if any(a.get(key) == value for a in t["Associations"])), None)

        table = associated("SubnetId", subnet_id) or associated("Main", True)
        routes = [
            (IPv4Network(route["DestinationCidrBlock"]).prefixlen, route)
            for route in (table or {}).get("Routes", ())
            if route.get("DestinationCidrBlock") and IPv4Address(address) in IPv4Network(route["DestinationCidrBlock"])
        ]
        return max(routes, key=lambda each: each[0])[1] if routes else None


async def read_records(control_plane: ControlPlane) -> VpcRecords:
    """The present records. Reading takes a few milliseconds."""

    async def read(kind: str, key: str) -> dict[str, Json]:
        answer = await control_plane.call("ec2", f"Describe{kind}")
        return {each[key]: each for each in answer[kind]}

    return VpcRecords(
        vpcs=await read("Vpcs", "VpcId"),
        subnets=await read("Subnets", "SubnetId"),
        internet_gateways=await read("InternetGateways", "InternetGatewayId"),
        nat_gateways=await read("NatGateways", "NatGatewayId"),
        route_tables=await read("RouteTables", "RouteTableId"),
        security_groups=await read("SecurityGroups", "GroupId"),
    )


async def read_groups(control_plane: ControlPlane) -> dict[str, Group]:
    """The present rules of all security groups, by the group's id."""
    return _groups((await control_plane.call("ec2", "DescribeSecurityGroups"))["SecurityGroups"])


def _groups(security_groups: Iterable[Json]) -> dict[str, Group]:
    return {
        group["GroupId"]: Group(
            id=group["GroupId"],
            ingress=tuple(_rules(group["IpPermissions"])),
            egress=tuple(_rules(group["IpPermissionsEgress"])),
        )
        for group in security_groups
    }


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
