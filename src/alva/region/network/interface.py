"""A network interface, as the part of the region that owns it describes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Interface:
    """An address in a subnet, with security groups."""

    address: str
    subnet_id: str
    groups: Callable[[], Sequence[str]]
    """The ids of its security groups now; none means the VPC's default group."""
    has_public_address: bool = False
    managed_ports: tuple[int, ...] = ()
    """Ports behind it that the region connects to, and interfaces with such a port to each other (replication)."""
    hidden_ports: tuple[int, ...] = ()
    """Ports behind it that are the region's own business: nobody in the VPC reaches them."""
