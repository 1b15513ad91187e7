"""Addresses of network interfaces: 10.0.10.17 in a subnet is 127.<octet>.10.17 on this machine."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from alva.errors import SubnetFull
from alva.region.config import RegionConfig

_RESERVED_AT_START = 4
"""AWS keeps a subnet's first four addresses and its last: network, router, DNS, future use, broadcast.
https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html"""


class Addresses:
    """Hands out the loopback addresses that stand for the VPC's private ones. Not thread-safe."""

    def __init__(self, config: RegionConfig) -> None:
        self._octet = config.loopback_octet
        self._taken: set[str] = set()

    def allocate(self, cidr_block: str) -> str:
        """Take the first free address of the subnet `cidr_block` (such as "10.0.10.0/24") and return its loopback form.

        Raises SubnetFull when none is free.
        """
        network = IPv4Network(cidr_block)
        first, last = int(network.network_address) + _RESERVED_AT_START, int(network.broadcast_address) - 1
        for number in range(first, last + 1):
            address = self.loopback_of(str(IPv4Address(number)))
            if address not in self._taken:
                self._taken.add(address)
                return address
        raise SubnetFull(
            f"cannot place a network interface: subnet {cidr_block} has no free address",
            evidence=[f"{max(0, last - first + 1)} addresses, all taken"],
            next_step="stop tasks, or give the subnet a larger CIDR block",
        )

    def reserve(self, address: str) -> None:
        """Mark a loopback address as taken; it may be so already (restoring state)."""
        self._taken.add(address)

    def release(self, address: str) -> None:
        """Give an address back; releasing a free one changes nothing."""
        self._taken.discard(address)

    def loopback_of(self, private_address: str) -> str:
        """The loopback address that stands for `private_address` here: "10.0.10.17" -> "127.20.10.17"."""
        _, _, third, fourth = private_address.split(".")
        return f"127.{self._octet}.{third}.{fourth}"
