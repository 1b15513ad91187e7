"""A load balancer for each test: the real Envoy, the elbv2 API, and small servers as targets."""

# ruff: noqa: ARG001 - answers and tests have a common signature, and some use only a part of it

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from ministack.core.responses import request_scope
from ministack.services import ec2

from alva.region.addresses import Addresses
from alva.region.background import Background
from alva.region.certificates import CertificateAuthority
from alva.region.cloudformation.registry import Registry
from alva.region.cloudwatch.metrics import Metrics
from alva.region.config import RegionConfig
from alva.region.control_plane import ControlPlane
from alva.region.elb import LoadBalancers
from alva.region.elb.records import Listener, Records
from alva.region.elb.store import Store
from alva.region.network import Loopback
from alva.region.query_protocol import flatten
from alva.region.service_table import ServiceTable
from alva.region.supervisor import Supervisor
from tests.conftest import reserved_region_config
from tests.waiting import async_until

Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def simple_answer(status: str = "200 OK", body: str = "fine", headers: str = "") -> Answer:
    """The same answer to every request, on a connection that stays open."""

    async def answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n{body}".encode())

    return answer


async def echo_head(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the request's head."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(head), head))


class Target:
    """A small HTTP/1.1 server at its own address; `answer` can be replaced while it runs."""

    def __init__(self, address: str, answer: Answer) -> None:
        self.address = address
        self.port = 8000
        self.answer = answer
        self.health: Answer = simple_answer()
        self.requests: list[bytes] = []
        """Heads of the requests, without health checks."""
        self.health_checks = 0
        self.tls: ssl.SSLContext | None = None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> Target:
        self._server = await asyncio.start_server(self._serve, self.address, self.port, ssl=self.tls)
        return self

    async def stop(self) -> None:
        if self._server:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"ELB-HealthChecker" in head:
                    self.health_checks += 1
                    await self.health(head, reader, writer)
                else:
                    self.requests.append(head)
                    await self.answer(head, reader, writer)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()


class Rig:
    """The load balancers of a small region, and a client of its elbv2 API."""

    def __init__(self, config: RegionConfig) -> None:
        self.config = config
        self.supervisor = Supervisor(self.config)
        self.certificates = CertificateAuthority(self.config.state_folder / "certificates")
        self.background = Background(retry_seconds=0.1)
        self.metrics = Metrics()
        region: Any = SimpleNamespace(
            config=self.config,
            background=self.background,
            metrics=self.metrics,
            network=Loopback(),
            supervisor=self.supervisor,
            addresses=Addresses(self.config),
            certificates=self.certificates,
            persistence=SimpleNamespace(mark_changed=lambda: None),
            resource_types=Registry(),
            services=ServiceTable(),
        )
        self.resource_types = region.resource_types.types
        self.load_balancers = LoadBalancers(region, registration_seconds=0.05, publish_seconds=0.2)
        self.url = f"http://127.0.0.1:{config.edge_port}"
        self.tls_url = f"https://127.0.0.1:{config.edge_tls_port}"
        self._targets: list[Target] = []
        self._numbers = itertools.count(1)

    @property
    def store(self) -> Store:
        return self.load_balancers.store

    async def __aenter__(self) -> Rig:
        self.load_balancers.install()
        network = await make_network()
        self.vpc, self.subnets, self.open_group = network.vpc, network.subnets, network.open_group
        await self.load_balancers.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.load_balancers.stop()
        await self.background.stop()
        await self.supervisor.stop_all()
        for target in self._targets:
            await target.stop()

    async def call(self, action: str, **request: Any) -> ElementTree.Element:
        """Call elbv2 through the wire format; raises AssertionError with the error's text."""
        return await called(self.load_balancers.handle_request, action, request)

    async def error_of(self, action: str, **request: Any) -> tuple[str, str]:
        """The code and message of a refused call."""
        try:
            await self.call(action, **request)
        except AssertionError as error:
            text = str(error)
            return (
                text.partition("<Code>")[2].partition("</Code>")[0],
                text.partition("<Message>")[2].partition("</Message>")[0],
            )
        raise AssertionError(f"{action} was accepted")

    async def load_balancer(self, **attributes: Any) -> str:
        answer = await self.call("CreateLoadBalancer", Name=f"lb-{next(self._numbers)}", **self.placement())
        arn = answer.findtext(".//LoadBalancerArn") or ""
        if attributes:
            pairs = [{"Key": key, "Value": value} for key, value in attributes.items()]
            await self.call("ModifyLoadBalancerAttributes", LoadBalancerArn=arn, Attributes=pairs)
        return arn

    async def certificate(self, name: str) -> str:
        """The ARN of an ACM certificate."""
        control_plane = ControlPlane(self.config.account_id, self.config.region)
        answer = await control_plane.call("acm", "RequestCertificate", DomainName=name)
        return str(answer["CertificateArn"])

    def placement(self) -> dict[str, Any]:
        """Parameters of a load balancer: subnets in two zones, and a security group open to all."""
        return {"Subnets": self.subnets[:2], "SecurityGroups": [self.open_group]}

    async def target_group(self, delay: int = 5, interval_seconds: float = 0.2, **settings: Any) -> str:
        """A target group with a shorter check interval than the API allows (5 s)."""
        request = {
            "Protocol": "HTTP",
            "Port": 80,
            "TargetType": "ip",
            "VpcId": self.vpc,
            "HealthCheckIntervalSeconds": 5,
            "HealthCheckTimeoutSeconds": 2,
            "UnhealthyThresholdCount": 2,
            "HealthyThresholdCount": 2,
        }
        answer = await self.call("CreateTargetGroup", Name=f"tg-{next(self._numbers)}", **(request | settings))
        arn = answer.findtext(".//TargetGroupArn") or ""
        group = self.store.target_groups[arn]
        check = replace(group.health_check, interval_seconds=interval_seconds, timeout_seconds=0.5)
        self.store.target_groups[arn] = replace(group, health_check=check)
        await self.call(
            "ModifyTargetGroupAttributes",
            TargetGroupArn=arn,
            Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": delay}],
        )
        return arn

    async def listener(self, load_balancer: str, *actions: dict[str, Any], **settings: Any) -> str:
        request = {"Port": 80, "Protocol": "HTTP"} | settings
        answer = await self.call("CreateListener", LoadBalancerArn=load_balancer, DefaultActions=actions, **request)
        return answer.findtext(".//ListenerArn") or ""

    async def rule(self, listener: str, priority: int, conditions: list[Any], action: Any, **more: Any) -> str:
        answer = await self.call(
            "CreateRule", ListenerArn=listener, Priority=priority, Conditions=conditions, Actions=[action], **more
        )
        return answer.findtext(".//RuleArn") or ""

    async def target(self, answer: Answer | None = None, *, start: bool = True) -> Target:
        target = Target(f"127.{self.config.loopback_octet}.7.{next(self._numbers)}", answer or simple_answer())
        self._targets.append(target)
        return await target.start() if start else target

    async def serving(self, answer: Answer | None = None, **attributes: Any) -> tuple[str, Target]:
        """Create a load balancer that forwards to one healthy target; returns the target group's ARN and the target."""
        group = await self.target_group()
        await self.listener(await self.load_balancer(**attributes), {"Type": "forward", "TargetGroupArn": group})
        target = await self.target(answer)
        self.load_balancers.register(group, target.address, target.port)
        await self.until_state(group, target, "healthy")
        return group, target

    answer = staticmethod(simple_answer)
    echo = staticmethod(echo_head)

    async def until(
        self, condition: Callable[[], bool], timeout_seconds: float = 60, *, is_accepted: bool = True
    ) -> None:
        """Return once the condition holds and Envoy serves the configuration that it led to, if that is accepted."""

        async def holds() -> bool:
            return condition() and (not is_accepted or await self._is_served())

        await async_until(holds, seconds=timeout_seconds)

    async def until_served(self) -> None:
        """Return once Envoy serves every listener and rule that the API has accepted."""
        await self.until(lambda: True)

    async def _is_served(self) -> bool:
        # Envoy opens a port a moment after it has accepted the configuration, and not all ports at once.
        return (
            routing(self.load_balancers._records) == routing(self.store.records())
            and await self.load_balancers._envoy.has_loaded()
            and all([await accepts_connections(*place) for place in self._served_places()])
        )

    def _served_places(self) -> list[tuple[str, int]]:
        records, edge = self.load_balancers._records, self.load_balancers._edge
        listeners = [
            (balancer.address, edge.port_of(listener.port))
            for balancer in records.load_balancers
            for listener in balancer.listeners
            if listener.admits_clients
        ]
        return [*listeners, *((proxy.address, proxy.port) for proxy in self.load_balancers._tls_proxies.values())]

    def state(self, group: str, target: Target) -> str:
        return self.load_balancers.health(group, target.address, target.port).state.value

    async def until_state(self, group: str, target: Target, state: str, timeout_seconds: float = 60) -> None:
        await self.until(lambda: self.state(group, target) == state, timeout_seconds)


def routing(records: Records) -> dict[str, tuple[Listener, ...]]:
    """The listeners by load balancer, without whether they admit clients, which only the data plane knows."""
    return {
        balancer.arn: tuple(replace(listener, admits_clients=True) for listener in balancer.listeners)
        for balancer in records.load_balancers
    }


async def accepts_connections(address: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def called(handle_request: Any, action: str, request: dict[str, Any]) -> ElementTree.Element:
    """Call through the query protocol, in the region's own scope; raises AssertionError with the error's text."""
    body = urlencode({"Action": action} | flatten(request))
    with request_scope("000000000000", "us-east-1"):
        status, _, answer = await handle_request("POST", "/", {}, body.encode(), {})
    assert status == 200, answer.decode()
    return without_namespace(ElementTree.fromstring(answer))  # noqa: S314 - our own answer


@dataclass
class Network:
    vpc: str
    subnets: list[str]
    """Three subnets: the first two are in two zones, the third is in the zone of the first."""
    open_group: str
    """A security group that admits all clients."""


async def make_network(*, has_gateway: bool = True) -> Network:
    """A VPC with subnets, by default with an internet gateway."""

    async def create(action: str, found: str, **request: Any) -> str:
        answer = await called(ec2.handle_request, action, request)
        return answer.findtext(f".//{found}") or ""

    vpc = await create("CreateVpc", "vpcId", CidrBlock="10.0.0.0/16")
    if has_gateway:
        gateway = await create("CreateInternetGateway", "internetGatewayId")
        await create("AttachInternetGateway", "none", VpcId=vpc, InternetGatewayId=gateway)
    subnets = []
    for number, zone in enumerate("aba"):
        place = {"CidrBlock": f"10.0.{number}.0/24", "AvailabilityZone": f"us-east-1{zone}"}
        subnets.append(await create("CreateSubnet", "subnetId", VpcId=vpc, **place))
    names = {"GroupName": "visitors", "GroupDescription": "visitors", "VpcId": vpc}
    group = await create("CreateSecurityGroup", "groupId", **names)
    rule = {"IpPermissions.1.IpProtocol": "-1", "IpPermissions.1.IpRanges.1.CidrIp": "0.0.0.0/0"}
    await create("AuthorizeSecurityGroupIngress", "none", GroupId=group, **rule)
    return Network(vpc, subnets, group)


def without_namespace(element: ElementTree.Element) -> ElementTree.Element:
    for node in element.iter():
        node.tag = node.tag.rpartition("}")[2]
    return element


@pytest.fixture(autouse=True)
def no_network_remains() -> Iterator[None]:
    """Delete the networks after each test: each call reads all of them, so the tests would become slower."""
    yield
    ec2.reset()


@pytest.fixture
def make_rig(tmp_path: Path) -> Callable[[], Any]:
    """Returns a function whose async context manager yields a running `Rig`."""

    @contextlib.asynccontextmanager
    async def make() -> AsyncIterator[Rig]:
        with reserved_region_config(tmp_path) as config:
            async with Rig(config) as rig:
                yield rig

    return make
