"""Chooses the region's network by ALVA_NETWORK: `namespaces`, `loopback`, or (the default) `auto`."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from alva.errors import RegionFailed
from alva.region.background import Background
from alva.region.control_plane import ControlPlane
from alva.region.network.interface import Interface
from alva.region.network.loopback import Loopback
from alva.region.network.namespace import Namespace, NetworkFailed, find_program
from alva.region.network.namespaces import Namespaces

MODES = ("auto", "namespaces", "loopback")
_PROGRAMS = {"ip": "iproute2", "nft": "nftables"}


class Network(Protocol):
    """The network's interface for the other parts of the region. `Namespaces` describes the methods."""

    is_enforced: bool
    """Whether security groups and routes are enforced, with the VPC's own addresses."""
    description: str
    """The text for `./alva status`."""
    services: Namespace | None
    """The namespace in which Envoy runs; None is the region's own."""
    machine: Namespace | None
    """The machine's own namespace, which has the edge; None is the region's own."""

    async def attach(self, interface: Interface) -> Namespace | None: ...
    async def serve(self, interface: Interface) -> None: ...
    async def serve_outside(self, addresses: tuple[str, ...], hidden_ports: tuple[int, ...]) -> None: ...
    async def serve_all_interfaces(self, address: str, port: int) -> None: ...
    async def detach(self, address: str) -> None: ...
    def detach_soon(self, address: str, then: Callable[[], None]) -> None: ...
    def changed(self) -> None: ...
    def socket(self) -> socket.socket: ...
    async def open_connection(
        self,
        address: str,
        port: int,
        *,
        source: str | None = None,
        tls: ssl.SSLContext | None = None,
        limit: int = 2**16,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...
    async def close(self) -> None: ...


def open_network(mode: str, run_folder: Path, background: Background, control_plane: ControlPlane) -> Network:
    """The network of `mode`. Raises RegionFailed when this machine does not allow it."""
    if mode not in MODES:
        raise RegionFailed(
            f"cannot start the local region: ALVA_NETWORK is {mode!r}", next_step=f"set it to one of {', '.join(MODES)}"
        )
    if mode == "loopback":
        return Loopback("ALVA_NETWORK=loopback")
    reason = missing()
    if reason is None:
        try:
            return Namespaces(run_folder / "network.json", background, control_plane)
        except (NetworkFailed, OSError) as error:
            reason = str(error)
    if mode == "namespaces":
        raise RegionFailed(
            "cannot start the local region with network namespaces",
            evidence=[reason],
            next_step="run it as root with iproute2 and nftables installed, or set ALVA_NETWORK=loopback",
        )
    return Loopback(reason)


def missing() -> str | None:
    """The reason why namespaces are impossible, if it is visible without trying; None otherwise."""
    if sys.platform != "linux":
        return "not Linux"
    if os.geteuid() != 0:
        return "not root"
    missing = [package for program, package in _PROGRAMS.items() if find_program(program) is None]
    return f"{' and '.join(missing)} not installed" if missing else None
