"""Decides whether clients reach a listener: by the load balancer's security groups, in every kind of network.

A client at the edge, 127.0.0.1, represents one on the internet that the groups admit; for an internal load balancer it
represents one in the VPC. If the groups admit no client, connections time out, as on AWS.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Network

from alva.region.elb.store import Store
from alva.region.network.rules import Group, Rule

logger = logging.getLogger(__name__)

_BIND_POLL_SECONDS = 0.05

Place = tuple[str, int]
"""Address and port."""


def admitted_clients(store: Store, groups: Mapping[str, Group]) -> dict[str, bool]:
    """Whether each listener admits clients, by ARN, according to these security groups."""
    return {
        listener.arn: are_admitted(
            [groups[group_id] for group_id in balancer.security_groups if group_id in groups]
            if balancer.security_groups
            else None,
            listener.port,
            is_internal=balancer.scheme == "internal",
        )
        for balancer in store.load_balancers.values()
        for listener in balancer.listeners
    }


def are_admitted(groups: Sequence[Group] | None, port: int, *, is_internal: bool) -> bool:
    """Whether a rule admits clients on a TCP port. Without any groups, all clients are admitted."""
    if groups is None:
        return True
    return any(
        _is_about(rule, port)
        and (is_internal or any(not IPv4Network(block, strict=False).is_private for block in rule.cidr_blocks))
        for group in groups
        for rule in group.ingress
    )


def _is_about(rule: Rule, port: int) -> bool:
    if rule.protocol == "-1":
        return True
    # -1 and a missing port stand for every port.
    first = 0 if rule.first_port in (None, -1) else rule.first_port
    last = 65535 if rule.last_port in (None, -1) else rule.last_port
    return rule.protocol in ("tcp", "6") and first <= port <= last


class SilentPorts:
    """Ports of the edge on which a connection times out. A closed port would refuse it.

    Each is a listening socket with a full queue, so that the kernel drops connection requests.
    """

    def __init__(self) -> None:
        self._silent: dict[Place, tuple[socket.socket, socket.socket]] = {}
        self._wanted: frozenset[Place] = frozenset()

    @property
    def are_missing(self) -> bool:
        """Whether a wanted port is not taken yet."""
        return any(place not in self._silent for place in self._wanted)

    def open_others(self, wanted: Collection[Place]) -> None:
        """Release every port that is not in `wanted`, so that Envoy can listen on it."""
        self._wanted = frozenset(wanted)
        for place in [place for place in self._silent if place not in self._wanted]:
            self._release(place)

    async def take(self) -> None:
        """Take the wanted ports, each once its former listener has closed it."""
        while missing := [place for place in self._wanted if place not in self._silent]:
            for place in missing:
                with suppress(OSError):
                    self._silent[place] = _silent_socket(place)
            if any(place not in self._silent for place in missing):
                await asyncio.sleep(_BIND_POLL_SECONDS)

    def close(self) -> None:
        """Release all ports."""
        self.open_others(())

    def _release(self, place: Place) -> None:
        for each in self._silent.pop(place):
            each.close()


def _silent_socket(place: Place) -> tuple[socket.socket, socket.socket]:
    """A listener that accepts no connection, and the one connection that fills its queue. Raises OSError."""
    listener, filling = socket.socket(), socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(0)
        filling.connect(place)
    except OSError:
        listener.close()
        filling.close()
        raise
    return listener, filling
