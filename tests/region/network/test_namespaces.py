"""Connections in the region's network, with real namespaces and rules, and EC2's records."""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ministack.core.responses import request_scope
from ministack.services import ec2

from alva.region.background import Background
from alva.region.control_plane import ControlPlane
from alva.region.network import Interface, Namespace, Namespaces
from alva.region.network.mode import missing
from tests.region_network import inside

pytestmark = [
    pytest.mark.region,
    pytest.mark.skipif(missing() is not None, reason=f"no network namespaces: {missing()}"),
]

TIMEOUT_SECONDS = 0.4
"""The connect timeout of a client. Accepted connections take under 1 ms."""
OUTSIDE = "198.51.100.10"


@dataclass
class Vpc:
    """A VPC with two subnets, one of them with a NAT gateway or without a route, and its security groups by name."""

    id: str
    public: str
    private: str
    groups: dict[str, str] = field(default_factory=dict)

    def group(self, name: str) -> str:
        """Make a security group without any rule."""
        before = set(ec2._security_groups)
        ec2._create_security_group({"GroupName": [name], "GroupDescription": [name], "VpcId": [self.id]})
        (self.groups[name],) = set(ec2._security_groups) - before
        record = ec2._security_groups[self.groups[name]]
        record["IpPermissions"], record["IpPermissionsEgress"] = [], []
        return self.groups[name]

    def allow(self, source: str, destination: str, port: int) -> None:
        """Add the two rules for a connection between groups."""
        self.let_out(source, port, group=destination)
        self.let_in(destination, port, group=source)

    def let_in(self, name: str, port: int, *, group: str | None = None, block: str | None = None) -> None:
        ec2._security_groups[self.groups[name]]["IpPermissions"].append(self._rule(port, group, block))

    def let_out(self, name: str, port: int, *, group: str | None = None, block: str | None = None) -> None:
        ec2._security_groups[self.groups[name]]["IpPermissionsEgress"].append(self._rule(port, group, block))

    def _rule(self, port: int, group: str | None, block: str | None) -> dict[str, Any]:
        return {
            "IpProtocol": "tcp",
            "FromPort": port,
            "ToPort": port,
            "IpRanges": [{"CidrIp": block}] if block else [],
            "UserIdGroupPairs": [{"GroupId": self.groups[group]}] if group else [],
        }


def new(store: Any, create: Callable[[dict[str, list[str]]], Any], **parameters: str) -> str:
    """Call one of EC2's operations; returns the id of the created resource."""
    before = set(store)
    create({name: [value] for name, value in parameters.items()})
    (made,) = set(store) - before
    return str(made)


def make_vpc() -> Vpc:
    vpc_id = new(ec2._vpcs, ec2._create_vpc, CidrBlock="10.0.0.0/16")
    public, private = (
        new(ec2._subnets, ec2._create_subnet, VpcId=vpc_id, CidrBlock=block, AvailabilityZone="us-east-1a")
        for block in ("10.0.1.0/24", "10.0.10.0/24")
    )
    return Vpc(vpc_id, public, private)


def route(vpc: Vpc, subnet_id: str, **target: str) -> None:
    """Give a subnet a route table whose default route leads to `target`."""
    table = new(ec2._route_tables, ec2._create_route_table, VpcId=vpc.id)
    ec2._associate_route_table({"RouteTableId": [table], "SubnetId": [subnet_id]})
    ec2._create_route(
        {"RouteTableId": [table], "DestinationCidrBlock": ["0.0.0.0/0"], **{k: [v] for k, v in target.items()}}
    )


def internet_gateway(vpc: Vpc) -> str:
    gateway = new(ec2._internet_gateways, ec2._create_internet_gateway)
    ec2._attach_internet_gateway({"InternetGatewayId": [gateway], "VpcId": [vpc.id]})
    return gateway


class Bench:
    """A network, and processes in it that listen and connect."""

    def __init__(self, network: Namespaces) -> None:
        self.network = network
        self.vpc = make_vpc()
        self._numbers = itertools.count(10)
        self._listeners: list[socket.socket] = []

    async def interface(self, *groups: str, subnet_id: str = "", vpc: Vpc | None = None, **more: Any) -> Machine:
        """Attach an interface that has these groups, by name."""
        vpc = vpc or self.vpc
        subnet_id = subnet_id or vpc.private
        base = ec2._subnets[subnet_id]["CidrBlock"].rpartition(".")[0]
        address = f"{base}.{next(self._numbers)}"
        interface = Interface(
            address=address, subnet_id=subnet_id, groups=lambda: [vpc.groups[name] for name in groups], **more
        )
        namespace = await self.network.attach(interface)
        assert namespace is not None
        return Machine(address, namespace, self._listeners)

    async def rules_changed(self) -> None:
        self.network.changed()
        await self.network.settled()

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()


@dataclass
class Machine:
    """A namespace with an address."""

    address: str
    namespace: Namespace
    listeners: list[socket.socket]

    def listen(self, port: int) -> None:
        """Accept connections on a port (the kernel does, up to the backlog)."""
        with inside(self.namespace.path):
            listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))  # noqa: S104 - within the namespace
        listener.listen(8)
        self.listeners.append(listener)

    def connect(self, address: str, port: int) -> socket.socket:
        with inside(self.namespace.path):
            return socket.create_connection((address, port), timeout=TIMEOUT_SECONDS)

    def reaches(self, other: Machine | str, port: int) -> bool:
        """Whether a connection is accepted; False when it times out."""
        try:
            self.connect(other if isinstance(other, str) else other.address, port).close()
        except TimeoutError:
            return False
        return True


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Bench]:
    ec2.reset()
    network = Namespaces(folder / "network.json", Background(), ControlPlane("000000000000", "us-east-1"))
    bench = Bench(network)
    try:
        yield bench
    finally:
        bench.close()
        await network.close()
        ec2.reset()


def on_bench(test: Callable[[Bench], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    """Run a test with its own network."""

    def run(tmp_path: Path) -> None:
        async def body() -> None:
            async with opened(tmp_path) as bench:
                await test(bench)

        asyncio.run(body())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@on_bench
async def test_connection_without_a_rule_times_out(bench: Bench) -> None:
    bench.vpc.group("api")
    bench.vpc.group("database")
    api, database = await bench.interface("api"), await bench.interface("database")
    database.listen(5432)
    assert not api.reaches(database, 5432)
    bench.vpc.let_in("database", 5432, group="api")
    await bench.rules_changed()
    assert not api.reaches(database, 5432), "no outbound rule allows it"
    bench.vpc.let_out("api", 5432, group="database")
    await bench.rules_changed()
    assert api.reaches(database, 5432)
    assert not database.reaches(api, 5432), "a rule applies to one direction"


@on_bench
async def test_a_rule_is_for_its_ports_only(bench: Bench) -> None:
    bench.vpc.group("api")
    bench.vpc.group("cache")
    api, cache = await bench.interface("api"), await bench.interface("cache")
    cache.listen(6379)
    cache.listen(6380)
    bench.vpc.allow("api", "cache", 6379)
    await bench.rules_changed()
    assert api.reaches(cache, 6379)
    assert not api.reaches(cache, 6380)


@on_bench
async def test_a_group_that_names_itself_lets_its_members_reach_each_other(bench: Bench) -> None:
    bench.vpc.group("tasks")
    one, two = await bench.interface("tasks"), await bench.interface("tasks")
    two.listen(3001)
    assert not one.reaches(two, 3001), "members of one group cannot connect without a rule"
    bench.vpc.allow("tasks", "tasks", 3001)
    await bench.rules_changed()
    assert one.reaches(two, 3001)


@on_bench
async def test_an_interface_has_the_rules_of_all_of_its_groups(bench: Bench) -> None:
    for name in ("out", "in", "api"):
        bench.vpc.group(name)
    api, database = await bench.interface("api", "out"), await bench.interface("in")
    database.listen(5432)
    bench.vpc.let_out("out", 5432, block="10.0.0.0/16")
    bench.vpc.let_in("in", 5432, group="api")
    await bench.rules_changed()
    assert api.reaches(database, 5432)


@on_bench
async def test_managed_port_is_open_to_the_region_and_its_peers_independent_of_groups(bench: Bench) -> None:
    for name in ("cache", "api"):
        bench.vpc.group(name)
    node, replica = [await bench.interface("cache", managed_ports=(16379,), hidden_ports=(16379,)) for _ in range(2)]
    api = await bench.interface("api")
    bench.vpc.let_out("api", 16379, block="0.0.0.0/0")
    bench.vpc.let_in("cache", 16379, block="0.0.0.0/0")
    node.listen(16379)
    node.listen(6379)
    await bench.rules_changed()
    assert replica.reaches(node, 16379)
    assert not api.reaches(node, 16379), "on AWS there is no such port"
    _, writer = await asyncio.wait_for(bench.network.open_connection(node.address, 16379), TIMEOUT_SECONDS * 10)
    writer.close()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.network.open_connection(node.address, 6379), TIMEOUT_SECONDS)


@on_bench
async def test_an_open_connection_outlives_its_rule_and_a_new_one_is_not_accepted(bench: Bench) -> None:
    """Tracked connections, as on AWS."""
    bench.vpc.group("api")
    bench.vpc.group("database")
    api, database = await bench.interface("api"), await bench.interface("database")
    database.listen(5432)
    bench.vpc.allow("api", "database", 5432)
    await bench.rules_changed()
    with api.connect(database.address, 5432) as connection:
        accepted, _ = database.listeners[-1].accept()
        ec2._security_groups[bench.vpc.groups["database"]]["IpPermissions"] = []
        await bench.rules_changed()
        assert not api.reaches(database, 5432)
        connection.sendall(b"still here")
        accepted.settimeout(5)
        assert accepted.recv(16) == b"still here"
        accepted.close()


@on_bench
async def test_vpcs_with_the_same_addresses_do_not_reach_each_other(bench: Bench) -> None:
    other = make_vpc()
    for vpc in (bench.vpc, other):
        vpc.group("open")
        vpc.let_in("open", 80, block="0.0.0.0/0")
        vpc.let_out("open", 80, block="0.0.0.0/0")
    here, neighbour = await bench.interface("open"), await bench.interface("open")
    there = await bench.interface("open", vpc=other)
    neighbour.listen(80)
    there.listen(80)
    assert here.reaches(neighbour, 80)
    assert not here.reaches(there, 80)


@on_bench
async def test_the_internet_needs_an_egress_rule_and_a_route_through_a_nat_gateway(bench: Bench) -> None:
    vpc = bench.vpc
    vpc.group("tasks")
    task = await bench.interface("tasks")
    await bench.network.serve_outside((OUTSIDE,), (8080,))
    await bench.network.settled()
    for port in (443, 8080):
        listener = bench.network.socket()
        listener.bind((OUTSIDE, port))
        listener.listen(8)
        task.listeners.append(listener)
    vpc.let_out("tasks", 443, block="0.0.0.0/0")
    vpc.let_out("tasks", 8080, block="0.0.0.0/0")
    await bench.rules_changed()
    assert not task.reaches(OUTSIDE, 443), "there is no route"

    nat_gateway = new(ec2._nat_gateways, ec2._create_nat_gateway, SubnetId=vpc.public, AllocationId="")
    route(vpc, vpc.private, NatGatewayId=nat_gateway)
    await bench.rules_changed()
    assert not task.reaches(OUTSIDE, 443), "the gateway itself has no route"

    route(vpc, vpc.public, GatewayId=internet_gateway(vpc))
    await bench.rules_changed()
    assert task.reaches(OUTSIDE, 443)
    assert not task.reaches(OUTSIDE, 8080), "other ports of a stand-in's address are not on the internet"
    ec2._security_groups[vpc.groups["tasks"]]["IpPermissionsEgress"] = []
    await bench.rules_changed()
    assert not task.reaches(OUTSIDE, 443)


@on_bench
async def test_an_internet_gateway_is_for_public_addresses(bench: Bench) -> None:
    vpc = bench.vpc
    vpc.group("tasks")
    vpc.let_out("tasks", 443, block="0.0.0.0/0")
    route(vpc, vpc.public, GatewayId=internet_gateway(vpc))
    await bench.network.serve_outside((OUTSIDE,), ())
    listener = bench.network.socket()
    listener.bind((OUTSIDE, 443))
    listener.listen(8)
    private = await bench.interface("tasks", subnet_id=vpc.public)
    public = await bench.interface("tasks", subnet_id=vpc.public, has_public_address=True)
    private.listeners.append(listener)
    assert public.reaches(OUTSIDE, 443)
    assert not private.reaches(OUTSIDE, 443)


@on_bench
async def test_rules_do_not_depend_on_the_account_and_region_of_the_running_request(bench: Bench) -> None:
    bench.vpc.group("api")
    bench.vpc.group("database")
    api, database = await bench.interface("api"), await bench.interface("database")
    database.listen(5432)
    bench.vpc.allow("api", "database", 5432)
    with request_scope("111111111111", "eu-west-1"):
        await bench.rules_changed()
    assert api.reaches(database, 5432)


@on_bench
async def test_without_groups_an_interface_has_the_default_group(bench: Bench) -> None:
    one, two = await bench.interface(), await bench.interface()
    two.listen(80)
    assert not one.reaches(two, 80)
    default = next(g for g in ec2._security_groups.values() if g["VpcId"] == bench.vpc.id)
    default["IpPermissions"] = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": default["GroupId"]}]}]
    await bench.rules_changed()
    assert one.reaches(two, 80)


@on_bench
async def test_dns_query_is_rejected_at_once(bench: Bench) -> None:
    bench.vpc.group("tasks")
    task = await bench.interface("tasks")
    with inside(task.namespace.path):
        question = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with question:
        question.settimeout(5)
        question.connect(("10.0.0.2", 53))
        question.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            question.recv(16)


@on_bench
async def test_nothing_of_it_is_in_the_machines_own_network(bench: Bench) -> None:
    def seen() -> list[str]:
        commands = (["ip", "-o", "link"], ["ip", "route"], ["nft", "list", "ruleset"])
        return [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]

    before = seen()
    bench.vpc.group("tasks")
    task = await bench.interface("tasks")
    task.listen(80)
    assert seen() == before


@on_bench
async def test_a_detached_interface_is_removed_and_its_address_can_be_attached_again(bench: Bench) -> None:
    bench.vpc.group("tasks")
    bench.vpc.allow("tasks", "tasks", 80)
    one, two = await bench.interface("tasks"), await bench.interface("tasks")
    two.listen(80)
    assert one.reaches(two, 80)
    bench.close()
    await bench.network.detach(two.address)
    assert not one.reaches(two.address, 80)
    again = await bench.network.attach(
        Interface(address=two.address, subnet_id=bench.vpc.private, groups=lambda: [bench.vpc.groups["tasks"]])
    )
    assert again is not None
    Machine(two.address, again, one.listeners).listen(80)
    assert one.reaches(two.address, 80)
