"""Computes the possible connections from the templates alone: routes, security groups and listeners.

A connection is possible if the source's egress rules and the destination's ingress rules allow it, a route exists, and
something listens on the port. Network ACLs are AWS's default, which allows everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from alva.checks.assembly import Assembly, Reference, Resource
from alva.checks.security_groups import Rule, SecurityGroup, security_groups
from alva.checks.services import deployed_services
from alva.errors import AlvaError

INTERNET = "internet"
LOAD_BALANCER = "alb"
DATABASE = "database"
CACHE = "cache"

Matrix = Mapping[tuple[str, str], tuple[str, ...]]
"""(source, destination) -> the reachable TCP ports or ranges; without empty entries."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A source or destination. `exit` is its way to the internet; `is_public`, whether the internet can reach it."""

    name: str
    groups: tuple[SecurityGroup, ...]
    subnets: tuple[IPv4Network, ...]
    listens_on: tuple[int, ...]
    exit: Exit | None
    is_public: bool


@dataclass(frozen=True, kw_only=True)
class Exit:
    """A way to the internet; `groups` are those of a NAT instance, since a gateway has none."""

    groups: tuple[SecurityGroup, ...] = ()


def reachability(assembly: Assembly) -> Matrix:
    """Return the matrix of the environment: internet, load balancer, each service, database and cache.

    A node reaches the internet on the ports of its egress rules, if a route exists.
    """
    nodes = list(read_nodes(assembly))
    matrix: dict[tuple[str, str], tuple[str, ...]] = {}
    for destination in nodes:
        ports = tuple(str(port) for port in destination.listens_on if _is_open_to_internet(destination, port))
        if ports and destination.is_public:
            matrix[INTERNET, destination.name] = ports
    for source in nodes:
        for destination in nodes:
            # All nodes of a VPC have routes to each other: the local route cannot be removed.
            ports = tuple(
                str(port)
                for port in destination.listens_on
                if source is not destination
                and _lets_out(source, destination, port)
                and _lets_in(source, destination, port)
            )
            if ports:
                matrix[source.name, destination.name] = ports
        if ports := tuple(_ports_to_internet(source)):
            matrix[source.name, INTERNET] = ports
    return matrix


def node_names(assembly: Assembly) -> list[str]:
    """Return the names of the rows and columns, in order."""
    return [INTERNET, *(node.name for node in read_nodes(assembly))]


def read_nodes(assembly: Assembly) -> Iterator[Node]:
    """Yield all sources and destinations of the environment, in the order of the matrix."""
    groups = security_groups(assembly)
    for balancer in assembly.of_type("ElasticLoadBalancingV2::LoadBalancer"):
        listeners = (
            int(each.properties["Port"])
            for each in assembly.of_type("ElasticLoadBalancingV2::Listener")
            if assembly.target(each.properties["LoadBalancerArn"]) == balancer
        )
        yield _node(
            assembly,
            LOAD_BALANCER,
            groups=_groups(assembly, groups, balancer.properties["SecurityGroups"]),
            subnets=balancer.properties["Subnets"],
            listens_on=tuple(sorted(listeners)),
            has_public_address=balancer.properties.get("Scheme") == "internet-facing",
        )
    for service in deployed_services(assembly):
        network = service.service.properties["NetworkConfiguration"]["AwsvpcConfiguration"]
        yield _node(
            assembly,
            service.name,
            groups=_groups(assembly, groups, network["SecurityGroups"]),
            subnets=network["Subnets"],
            listens_on=tuple(port for container in service.containers for port in container.ports),
            has_public_address=network.get("AssignPublicIp") == "ENABLED",
        )
    for instance in assembly.of_type("RDS::DBInstance"):
        yield _node(
            assembly,
            DATABASE,
            groups=_groups(assembly, groups, instance.properties["VPCSecurityGroups"]),
            subnets=_subnets_of_group(assembly, instance.properties["DBSubnetGroupName"]),
            listens_on=(int(instance.properties.get("Port", 5432)),),
            has_public_address=bool(instance.properties.get("PubliclyAccessible")),
        )
    for cache in assembly.of_type("ElastiCache::ReplicationGroup"):
        yield _node(
            assembly,
            CACHE,
            groups=_groups(assembly, groups, cache.properties["SecurityGroupIds"]),
            subnets=_subnets_of_group(assembly, cache.properties["CacheSubnetGroupName"]),
            listens_on=(int(cache.properties.get("Port", 6379)),),
            # ElastiCache has no public addresses.
            has_public_address=False,
        )


def _node(
    assembly: Assembly,
    name: str,
    *,
    groups: tuple[SecurityGroup, ...],
    subnets: Sequence[object],
    listens_on: tuple[int, ...],
    has_public_address: bool,
) -> Node:
    found = [subnet for value in subnets if (subnet := assembly.target(value)) is not None]
    routes = [_default_route(assembly, subnet) for subnet in found]
    behind_gateway = all(route is not None and "GatewayId" in route.properties for route in routes)
    way_out = None
    if behind_gateway:
        # Through an internet gateway, only public addresses get an answer.
        way_out = Exit() if has_public_address else None
    elif all(route is not None for route in routes):
        instances = [assembly.target(route.properties.get("InstanceId")) for route in routes if route is not None]
        own = security_groups(assembly)
        way_out = Exit(
            groups=tuple(
                group
                for instance in instances
                if instance is not None
                for group in _groups(assembly, own, instance.properties["SecurityGroupIds"])
            )
        )
    return Node(
        name=name,
        groups=groups,
        subnets=tuple(IPv4Network(subnet.properties["CidrBlock"]) for subnet in found),
        listens_on=listens_on,
        exit=way_out,
        is_public=behind_gateway and has_public_address,
    )


def _admits(rule: Rule, port: int, peer: Node) -> bool:
    """Whether a rule matches this port and this peer, by its group or addresses."""
    return rule.admits_port(port) and (
        any(rule.group == group.resource.reference for group in peer.groups)
        or (rule.network is not None and any(rule.network.overlaps(subnet) for subnet in peer.subnets))
    )


def _lets_out(source: Node, destination: Node, port: int) -> bool:
    return any(_admits(rule, port, destination) for group in source.groups for rule in group.egress)


def _lets_in(source: Node, destination: Node, port: int) -> bool:
    return any(_admits(rule, port, source) for group in destination.groups for rule in group.ingress)


def _is_open_to_internet(destination: Node, port: int) -> bool:
    return any(
        rule.admits_port(port) and _holds_public_addresses(rule)
        for group in destination.groups
        for rule in group.ingress
    )


def _ports_to_internet(source: Node) -> Iterator[str]:
    if source.exit is None:
        return
    for rule in (rule for group in source.groups for rule in group.egress):
        if not _holds_public_addresses(rule):
            continue
        passes = not source.exit.groups or any(
            _admits(entry, rule.first, source) and entry.admits_port(rule.last)
            for group in source.exit.groups
            for entry in group.ingress
        )
        if passes:
            yield str(rule.first) if rule.first == rule.last else f"{rule.first}-{rule.last}"


def _holds_public_addresses(rule: Rule) -> bool:
    return rule.network is not None and not rule.network.is_private


def _groups(
    assembly: Assembly, groups: Mapping[Reference, SecurityGroup], values: Sequence[object]
) -> tuple[SecurityGroup, ...]:
    found = [assembly.target(value) for value in values]
    return tuple(groups[each.reference] for each in found if each is not None)


def _subnets_of_group(assembly: Assembly, value: object) -> Sequence[object]:
    group = assembly.target(value)
    if group is None:
        raise AlvaError(
            f"cannot check {value}: it names no subnet group of the templates",
            next_step="correct infrastructure/, then ./alva synth",
        )
    return list(group.properties["SubnetIds"])


def _default_route(assembly: Assembly, subnet: Resource) -> Resource | None:
    tables = [
        assembly.target(each.properties["RouteTableId"])
        for each in assembly.of_type("EC2::SubnetRouteTableAssociation")
        if assembly.target(each.properties["SubnetId"]) == subnet
    ]
    for route in assembly.of_type("EC2::Route"):
        is_default = route.properties.get("DestinationCidrBlock") == "0.0.0.0/0"
        if is_default and assembly.target(route.properties["RouteTableId"]) in tables:
            return route
    return None
