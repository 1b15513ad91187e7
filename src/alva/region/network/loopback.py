"""The network of a region that cannot create namespaces: all parts share this machine's loopback addresses."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from alva.region.network.interface import Interface
from alva.region.network.namespace import Namespace, stream_socket


class Loopback:
    """10.0.10.17 is 127.<octet>.10.17; security groups and routes are records only. Most methods do nothing.

    Instead, `./alva up` and `deploy` check that the templates' security groups and routes allow the needed connections
    (`checks/paths.py`).
    """

    is_enforced = False
    services: Namespace | None = None
    machine: Namespace | None = None

    def __init__(self, reason: str = "") -> None:
        """`reason` is the reason for the missing namespaces, for `./alva status`."""
        self.description = "loopback addresses, security groups only checked at a release" + (
            f" ({reason})" if reason else ""
        )

    async def attach(self, interface: Interface) -> Namespace | None:
        """Return None: there is no namespace."""
        del interface
        return None

    async def serve(self, interface: Interface) -> None:
        """Do nothing: all of 127.0.0.0/8 exists."""

    async def serve_outside(self, addresses: tuple[str, ...], hidden_ports: tuple[int, ...]) -> None:
        """Do nothing: all of 127.0.0.0/8 exists."""

    async def serve_all_interfaces(self, address: str, port: int) -> None:
        """Do nothing: the address does not exist here."""

    async def detach(self, address: str) -> None:
        """Do nothing: nothing was attached."""

    def detach_soon(self, address: str, then: Callable[[], None]) -> None:
        """Call `then` at once: nothing was attached."""
        del address
        then()

    def changed(self) -> None:
        """Do nothing: there are no rules."""

    def socket(self) -> socket.socket:
        """A TCP socket to listen with."""
        return stream_socket()

    async def open_connection(
        self,
        address: str,
        port: int,
        *,
        source: str | None = None,
        tls: ssl.SSLContext | None = None,
        limit: int = 2**16,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Like asyncio.open_connection; `source` is ignored."""
        del source
        return await asyncio.open_connection(address, port, ssl=tls, limit=limit)

    async def close(self) -> None:
        """Do nothing: there are no namespaces."""
