"""The description of a network interface, from the part of the region that owns it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Interface:
    """An address in a subnet, with security groups."""

    address: str
    subnet_id: str
    groups: Callable[[], Sequence[str]]
    """Returns the ids of its present security groups; empty means the VPC's default group."""
    has_public_address: bool = False
    managed_ports: tuple[int, ...] = ()
    """Ports that the region connects to. Interfaces with the same port also reach each other, for replication.
    """
    hidden_ports: tuple[int, ...] = ()
    """Ports that are not reachable from the VPC."""
