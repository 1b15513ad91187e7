"""Addresses of network interfaces: 10.0.10.17 in a network with namespaces, 127.<octet>.10.17 in one without."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from alva.errors import SubnetFull
from alva.region.config import RegionConfig

_RESERVED_AT_START = 4
"""AWS keeps a subnet's first four addresses and its last: network, router, DNS, future use, broadcast.
https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html"""


class Addresses:
    """Allocates the VPC's private addresses, or the loopback addresses that replace them. Not thread-safe.

    An address is unique in the whole region, not only in its VPC: two VPCs may have the same CIDR block, and one load
    balancer process reaches the targets of both.
    """

    def __init__(self, config: RegionConfig, *, are_real: bool = False) -> None:
        """`are_real`: whether the network has the VPC's own addresses (`network.is_enforced`)."""
        self._octet = config.loopback_octet
        self._are_real = are_real
        self._taken: set[str] = set()

    def allocate(self, cidr_block: str) -> str:
        """Take the first free address of the subnet `cidr_block` (such as "10.0.10.0/24"), in the form that this
        machine uses.

        Raises SubnetFull when none is free.
        """
        network = IPv4Network(cidr_block)
        first, last = int(network.network_address) + _RESERVED_AT_START, int(network.broadcast_address) - 1
        for number in range(first, last + 1):
            address = self.local_form(str(IPv4Address(number)))
            if address not in self._taken:
                self._taken.add(address)
                return address
        raise SubnetFull(
            f"cannot place a network interface: subnet {cidr_block} has no free address",
            evidence=[f"{max(0, last - first + 1)} addresses, all taken"],
            next_step="stop tasks, or give the subnet a larger CIDR block",
        )

    def reserve(self, address: str) -> None:
        """Mark an address as taken. It may be taken already, when state is restored."""
        self._taken.add(address)

    def release(self, address: str) -> None:
        """Release an address; releasing a free one changes nothing."""
        self._taken.discard(address)

    def local_form(self, private_address: str) -> str:
        """The form of `private_address` on this machine: itself, or "127.20.10.17" for "10.0.10.17"."""
        if self._are_real:
            return private_address
        _, _, third, fourth = private_address.split(".")
        return f"127.{self._octet}.{third}.{fourth}"

    def restored(self, address: str, cidr_block: str) -> str:
        """Reserve a recorded address and return it in the form that this machine uses now, which may be another one.

        `cidr_block` is the subnet's.
        """
        first, second, _, _ = cidr_block.split(".")
        _, _, third, fourth = address.split(".")
        local = self.local_form(f"{first}.{second}.{third}.{fourth}")
        self.reserve(local)
        return local
