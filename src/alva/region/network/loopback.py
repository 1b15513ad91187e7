"""The network of a region that may not make one: this machine's loopback addresses, shared by all."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from alva.region.network.interface import Interface
from alva.region.network.namespace import Namespace, stream_socket


class Loopback:
    """10.0.10.17 is 127.<octet>.10.17; security groups and routes are records. Nothing here does anything.

    `./alva up` and `deploy` refuse instead what the templates' security groups and routes prevent (`checks/paths.py`).
    """

    is_enforced = False
    services: Namespace | None = None
    machine: Namespace | None = None

    def __init__(self, reason: str = "") -> None:
        """`reason`: why there are no namespaces, for people."""
        self.description = "loopback addresses, security groups only checked at a release" + (
            f" ({reason})" if reason else ""
        )

    async def attach(self, interface: Interface) -> Namespace | None:
        """No namespace of its own."""
        del interface
        return None

    async def serve(self, interface: Interface) -> None:
        """The address is there: all of 127.0.0.0/8 is."""

    def serve_outside(self, addresses: tuple[str, ...], hidden_ports: tuple[int, ...]) -> None:
        """The addresses are there."""

    def serve_everybody(self, address: str, port: int) -> None:
        """No such address is there."""

    async def detach(self, address: str) -> None:
        """Nothing was attached."""

    def detach_soon(self, address: str, then: Callable[[], None]) -> None:
        """Nothing was attached: it is done."""
        del address
        then()

    def changed(self) -> None:
        """Nothing is made from the records."""

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
        """As asyncio.open_connection; `source` does not matter here."""
        del source
        return await asyncio.open_connection(address, port, ssl=tls, limit=limit)

    async def close(self) -> None:
        """Nothing to take down."""
