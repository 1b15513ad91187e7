"""Ways into a region's network for tests: a client beside a database, a server beside the load balancer.

Where the region has network namespaces, a test's own process is outside of them, as a laptop is outside of a VPC.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from alva.region.config import RegionConfig

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def is_enforced(config: RegionConfig) -> bool:
    """Whether the running region has namespaces, and so addresses of the VPC."""
    return (config.run_folder / "network.json").exists()


def in_region(config: RegionConfig, private_address: str) -> str:
    """What an address of the VPC, 10.0.10.17 say, is in the running region."""
    if is_enforced(config):
        return private_address
    _, _, third, fourth = private_address.split(".")
    return f"127.{config.loopback_octet}.{third}.{fourth}"


@contextmanager
def network_of(config: RegionConfig, address: str) -> Iterator[None]:
    """The calling thread in the namespace of an interface: what it connects meanwhile comes from that address.

    For an address that has no interface, in that of the services. Without namespaces this does nothing.
    """
    if not is_enforced(config):
        yield
        return
    known = json.loads((config.run_folder / "network.json").read_text())
    with inside(known["addresses"].get(address, known["services"])):
        yield


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """The calling thread in the network namespace that a file stands for: its new sockets are there, and stay."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(namespace, os.O_RDONLY)
    try:
        _enter(other)
        try:
            yield
        finally:
            _enter(own)
    finally:
        os.close(other)
        os.close(own)


@contextmanager
def address_beside_the_load_balancer(config: RegionConfig, private_address: str) -> Iterator[str]:
    """An address of the VPC on which the calling thread may listen within `network_of` of it."""
    if is_enforced(config):
        services = json.loads((config.run_folder / "network.json").read_text())["services"]
        subprocess.run(
            ["nsenter", f"--net={services}", "ip", "address", "add", f"{private_address}/32", "dev", "lo"], check=True
        )
    yield in_region(config, private_address)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
