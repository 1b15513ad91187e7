"""Enters the local region's network from a test.

A test's own process is outside of the region's network namespaces, as a laptop is outside of a VPC.
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
    """Whether the running region has network namespaces, and so the VPC's addresses."""
    return (config.run_folder / "network.json").exists()


def in_region(config: RegionConfig, private_address: str) -> str:
    """Return the address in the running region of a VPC address such as 10.0.10.17."""
    if is_enforced(config):
        return private_address
    _, _, third, fourth = private_address.split(".")
    return f"127.{config.loopback_octet}.{third}.{fourth}"


@contextmanager
def network_of(config: RegionConfig, address: str) -> Iterator[None]:
    """Run the calling thread in the network namespace of an interface during the block.

    Its connections come from that address. An address without an interface selects the namespace of the services.
    Without namespaces this does nothing.
    """
    if not is_enforced(config):
        yield
        return
    known = json.loads((config.run_folder / "network.json").read_text())
    with inside(known["addresses"].get(address, known["services"])):
        yield


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Run the calling thread in a network namespace, given as a file. Sockets that it opens stay in that namespace."""
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
    """Return a VPC address on which the calling thread can listen within `network_of` that address."""
    if is_enforced(config):
        services = json.loads((config.run_folder / "network.json").read_text())["services"]
        subprocess.run(
            ["nsenter", f"--net={services}", "ip", "address", "add", f"{private_address}/32", "dev", "lo"], check=True
        )
    yield in_region(config, private_address)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
