"""The client address and scheme of a request behind the load balancer. Only trusted proxies are believed.

An Application Load Balancer appends the address it saw to X-Forwarded-For and sets X-Forwarded-Proto
(Elastic Load Balancing user guide, "HTTP headers and Application Load Balancers").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

LOOPBACK = IPv4Network("127.0.0.0/8")


@dataclass(frozen=True)
class Caller:
    """The sender of a request."""

    client: str
    """The client's address, as the trusted proxies report it."""
    scheme: str
    is_inside: bool
    """Whether the request comes from inside the network and through no proxy, such as a health check."""


def find_caller(peer: str, scheme: str, headers: Mapping[str, str], vpc: IPv4Network | None) -> Caller:
    """Find the sender from the address of the connection and the request's headers (lower-case names)."""

    def is_trusted(address: str) -> bool:
        try:
            parsed = IPv4Address(address)
        except ValueError:
            return False
        return parsed in LOOPBACK or (vpc is not None and parsed in vpc)

    if not is_trusted(peer):
        return Caller(peer, scheme, is_inside=False)
    hops = [hop.strip() for hop in headers.get("x-forwarded-for", "").split(",") if hop.strip()]
    forwarded_scheme = headers.get("x-forwarded-proto", "").strip().lower()
    # Each trusted proxy appends the address that it saw. From the right, the first untrusted address is the client.
    client = next((hop for hop in reversed(hops) if not is_trusted(hop)), hops[0] if hops else peer)
    return Caller(client, forwarded_scheme if forwarded_scheme in {"http", "https"} else scheme, is_inside=not hops)
