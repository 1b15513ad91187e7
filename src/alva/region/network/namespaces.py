"""The network of a region that can create namespaces: a router, connected to a namespace for each VPC interface.

            router ---- a task's namespace      10.0.10.4
   (nftables)   |------ a database's            10.0.11.4
                |------ a cache node's          10.0.10.5
                `------ services: Envoy, the stand-ins. The load balancers' addresses are here.

A pair of virtual interfaces connects each namespace to the router. Each has a /32 address, so all its packets are
routed and the router's rules apply to all of them. Nothing is in the machine's own namespace, and no route leads to it:
the edge is a socket of the machine's namespace on which Envoy listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from alva.region.background import Background
from alva.region.control_plane import ControlPlane
from alva.region.network.interface import Interface
from alva.region.network.namespace import Namespace, NetworkFailed, Place, own_namespace, run, stream_socket
from alva.region.network.records import VpcRecords, read_records
from alva.region.network.rules import Member, Outside, ruleset

logger = logging.getLogger("alva.network")

T = TypeVar("T")

RETRY_SECONDS = 5.0
"""The delay before another try to apply the rules."""

_GATEWAY = "169.254.1.1"
"""The router's address in every namespace."""
_SERVICES_LINK = "169.254.2.1"
"""The services' address on their link: the source of the region's own connections, which reach managed ports only."""


class Namespaces:
    """Real addresses, a namespace for each interface, and rules from the recorded security groups and routes.

    Used on the event loop, except `socket` and `changed`.
    """

    is_enforced = True
    description = "namespaces, security groups enforced"

    def __init__(self, map_file: Path, background: Background, control_plane: ControlPlane) -> None:
        """Create the router and the services' namespace. Raises NetworkFailed when the kernel refuses.

        `control_plane` reads the VPCs. While the region runs, `map_file` lists the namespace of each address.
        """
        self._map_file = map_file
        self._background = background
        self._control_plane = control_plane
        machine = own_namespace()
        self.machine: Namespace | None = machine
        with contextlib.ExitStack() as undo:
            undo.callback(machine.close)
            self._router = Place("router")
            undo.callback(self._router.close)
            self._services = Place("services")
            undo.callback(self._services.close)
            self.services: Namespace | None = self._services.namespace
            self._numbers = itertools.count(1)
            self._interfaces: dict[str, Interface] = {}
            self._links: dict[str, tuple[str, Namespace]] = {}
            self._outside = Outside()
            self._open_to_all: tuple[tuple[str, int], ...] = ()
            self._applied = ""
            self._applying = asyncio.Lock()
            self._linking = asyncio.Lock()
            self._is_change_pending = False
            self._tasks: set[asyncio.Task[Any]] = set()
            self._services_link = f"v{next(self._numbers)}"
            self._router.run_now(self._start_router)
            self._services.run_now(self._start_services)
            undo.pop_all()
        self._write_map()

    async def attach(self, interface: Interface) -> Namespace | None:
        """Create the namespace of an interface, with its address, a route to the router, and its rules.

        Attaching an existing address only updates its rules. Raises NetworkFailed.
        """
        # The caller can be cancelled (a task that is stopped while it starts); the interface is recorded even then.
        return await asyncio.shield(
            self._keep(
                asyncio.get_running_loop().create_task(
                    self._attach(interface), name=f"attach {interface.address}", context=self._background.context
                )
            )
        )

    async def serve(self, interface: Interface) -> None:
        """Route an interface's address to the services, which listen on it."""
        if interface.address not in self._interfaces:
            await self._route_to_services(interface.address)
        self._interfaces[interface.address] = interface
        self._write_map()
        await self._apply()

    async def serve_outside(self, addresses: tuple[str, ...], hidden_ports: tuple[int, ...]) -> None:
        """Add addresses outside the VPCs, which represent the internet, to the services' namespace."""
        for address in addresses:
            await self._route_to_services(address)
        self._outside = Outside(addresses=addresses, hidden_ports=hidden_ports)
        self.changed()

    async def serve_all_interfaces(self, address: str, port: int) -> None:
        """Add an address to the services that every interface reaches on a port, independent of groups and routes."""
        await self._route_to_services(address)
        self._open_to_all = (*self._open_to_all, (address, port))
        self.changed()

    async def _route_to_services(self, address: str) -> None:
        await self._services.run(run, "ip", "address", "replace", f"{address}/32", "dev", "eth0")
        await self._router.run(run, "ip", "route", "replace", f"{address}/32", "dev", self._services_link)

    async def detach(self, address: str) -> None:
        """Remove an interface; unknown addresses are ignored."""
        async with self._linking:
            if self._interfaces.pop(address, None) is None:
                return
            link = self._links.pop(address, None)
            try:
                if link is not None:
                    name, namespace = link
                    await self._router.run(run, "ip", "link", "delete", name)
                    namespace.close()
                else:
                    await self._router.run(run, "ip", "route", "delete", f"{address}/32")
                    await self._services.run(run, "ip", "address", "delete", f"{address}/32", "dev", "eth0")
            except NetworkFailed as error:
                logger.warning("cannot remove the interface of %s: %s", address, error)
            self._write_map()
        await self._apply()

    def detach_soon(self, address: str, then: Callable[[], None]) -> None:
        """Remove an interface in the background, and call `then` when the address is free."""

        async def work() -> None:
            await self.detach(address)
            then()

        self._keep(self._background.spawn(f"detach {address}", work()))

    def changed(self) -> None:
        """Update the rules from the records, soon, on the event loop."""
        if not self._is_change_pending:
            self._is_change_pending = True
            self._keep(self._background.spawn("apply the network's rules", self._apply_change()))

    async def settled(self) -> None:
        """Return once the rules match the records at the time of the call."""
        while self._tasks:
            await asyncio.gather(*self._tasks)
        await self._apply()

    def socket(self) -> socket.socket:
        """A TCP socket of the services' namespace."""
        return self._services.run_now(stream_socket)

    async def open_connection(
        self,
        address: str,
        port: int,
        *,
        source: str | None = None,
        tls: ssl.SSLContext | None = None,
        limit: int = 2**16,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Like asyncio.open_connection, from the services' namespace; `source` is the source address."""
        connection = await self._services.run(stream_socket)
        try:
            connection.setblocking(False)
            if source is not None:
                connection.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
            return await asyncio.open_connection(
                sock=connection, ssl=tls, server_hostname=address if tls else None, limit=limit
            )
        except BaseException:
            connection.close()
            raise

    async def close(self) -> None:
        """Close every namespace; the kernel removes their interfaces."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, namespace in self._links.values():
            namespace.close()
        self._links.clear()
        self._map_file.unlink(missing_ok=True)
        self._services.close()
        self._router.close()
        if self.machine is not None:
            self.machine.close()

    async def _attach(self, interface: Interface) -> Namespace:
        async with self._linking:
            link = self._links.get(interface.address)
            if link is None:
                name = f"v{next(self._numbers)}"
                namespace = await self._router.run(self._make_link, name, interface.address)
                link = self._links[interface.address] = (name, namespace)
                self._write_map()
            self._interfaces[interface.address] = interface
        await self._apply()
        return link[1]

    def _keep(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _apply_change(self) -> None:
        # Apply all changes of a request or a stack operation's step together.
        await asyncio.sleep(0)
        self._is_change_pending = False
        try:
            await self._apply()
        except Exception:
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self.changed, context=self._background.context)
            raise

    async def _apply(self) -> None:
        async with self._applying:
            records = await read_records(self._control_plane)
            text = ruleset(
                self._members(records), records.groups, self._outside, self._open_to_all, region_address=_SERVICES_LINK
            )
            if text != self._applied:
                await self._router.run(lambda: run("nft", "-f", "-", lines=[text]))
                self._applied = text

    def _members(self, records: VpcRecords) -> list[Member]:
        members = []
        for interface in self._interfaces.values():
            subnet = records.subnets.get(interface.subnet_id)
            if subnet is None:
                continue  # The subnet was deleted: no connection reaches the interface.
            group_ids = tuple(interface.groups())
            if not group_ids:
                default = records.default_group(subnet["VpcId"])
                group_ids = (default,) if default else ()
            members.append(
                Member(
                    address=interface.address,
                    vpc_id=subnet["VpcId"],
                    group_ids=group_ids,
                    reaches_outside=any(
                        records.reaches(interface.subnet_id, address, is_public=interface.has_public_address)
                        for address in self._outside.addresses
                    ),
                    managed_ports=interface.managed_ports,
                    hidden_ports=interface.hidden_ports,
                )
            )
        return sorted(members, key=lambda member: member.address)

    def _start_router(self) -> None:
        run("nft", "-f", "-", lines=[ruleset([], {}, Outside())])
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        # Packets to an address without an interface get to the rules, which drop them. As on AWS, connections time out.
        run("ip", "route", "add", "default", "dev", "lo")
        _check_rules_are_kept()

    def _start_services(self) -> None:
        run(
            "ip", "-batch", "-",
            lines=[
                f"link add eth0 type veth peer name {self._services_link} netns {self._router.namespace.path}",
                *_link_lines(_SERVICES_LINK),
            ],
        )  # fmt: skip
        self._router.run_now(self._join, self._services_link, _SERVICES_LINK)

    def _make_link(self, name: str, address: str) -> Namespace:
        """Create a namespace and connect it. Runs in the router."""

        def prepare(neighbour: Namespace) -> None:
            del neighbour
            run(
                "ip", "-batch", "-",
                lines=[
                    "link set lo up",
                    f"link add eth0 type veth peer name {name} netns {self._router.namespace.path}",
                    *_link_lines(address),
                ],
            )  # fmt: skip

        namespace = self._router.make_neighbour(prepare)
        try:
            self._join(name, address)
        except BaseException:
            namespace.close()
            raise
        return namespace

    def _join(self, name: str, *addresses: str) -> None:
        run(
            "ip", "-batch", "-",
            lines=[
                f"address add {_GATEWAY}/32 dev {name}",
                f"link set {name} up",
                *(f"route replace {address}/32 dev {name}" for address in addresses),
            ],
        )  # fmt: skip

    def _write_map(self) -> None:
        """Write the namespace of each address, for debugging (`nsenter --net=...`) and tests."""
        services = self._services.namespace.path
        served = dict.fromkeys(self._interfaces, services)
        own = {address: namespace.path for address, (_, namespace) in self._links.items()}
        new = self._map_file.with_suffix(".new")
        new.write_text(json.dumps({"services": services, "addresses": served | own}, indent=2))
        new.replace(self._map_file)


def _link_lines(address: str) -> list[str]:
    """The commands for a namespace's end of the link: its /32 address, and a default route through the router."""
    return [
        "link set eth0 addrgenmode none",
        f"address add {address}/32 dev eth0",
        "link set eth0 up",
        f"route add {_GATEWAY} dev eth0 scope link",
        f"route add default via {_GATEWAY} dev eth0 src {address}",
    ]


def _check_rules_are_kept() -> None:
    """Raise NetworkFailed if `nft` succeeded but the kernel has no rules (a tool for another kernel)."""
    run("nft", "list", "chain", "inet", "region", "forward")
