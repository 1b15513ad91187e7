"""The targets in the data plane: registered ones, which are checked, and draining ones."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from alva.region.background import Background
from alva.region.elb.checker import CheckedTarget
from alva.region.elb.envoy import Envoy
from alva.region.elb.envoy_config import Endpoint
from alva.region.elb.records import LoadBalancer, Target
from alva.region.elb.store import Store
from alva.region.elb.target_health import DRAINING, NOT_IN_USE, NOT_REGISTERED, State, TargetHealth

_DRAIN_POLL_SECONDS = 0.2


class Key(NamedTuple):
    """A target of a target group."""

    group_arn: str
    address: str
    """The registered address."""
    port: int


class ConnectFrom(Protocol):
    """Opens a connection from the address of a load balancer; None is any address."""

    async def __call__(
        self, address: str, port: int, *, source: str | None = None, tls: ssl.SSLContext | None = None, limit: int = ...
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...


@dataclass
class _Draining:
    """A deregistered target: the end of its delay, and whether no request is in flight."""

    deadline: float
    is_done: bool = False


class TargetTable:
    """The health of every target. Used on the event loop.

    `reachable` converts an address in the VPC to the one on this machine, `source_of` returns the source address of a
    target group's load balancer. `changed` is called when the health of a target changes.
    """

    def __init__(
        self,
        store: Store,
        background: Background,
        *,
        connect: ConnectFrom,
        reachable: Callable[[str], str],
        source_of: Callable[[str], str | None],
        changed: Callable[[], None],
        registration_seconds: float,
    ) -> None:
        self._store = store
        self._background = background
        self._connect = connect
        self._reachable = reachable
        self._source_of = source_of
        self._changed = changed
        self._registration_seconds = registration_seconds
        self._checked: dict[Key, CheckedTarget] = {}
        self._draining: dict[Key, _Draining] = {}
        self._is_draining = asyncio.Event()

    def restore(self) -> None:
        """Add the registered targets of the store as new ones."""
        for arn, targets in self._store.targets.items():
            for target in targets:
                self._add(Key(arn, target.address, target.port))

    def stop(self) -> None:
        """End all checks."""
        for target in self._checked.values():
            target.stop()
        self._checked.clear()
        self._draining.clear()

    def register(self, key: Key) -> bool:
        """Register a target; a draining one becomes a new target again. Returns False if it was registered already."""
        if key in self._checked:
            return False
        self._draining.pop(key, None)
        self._store.targets.setdefault(key.group_arn, []).append(Target(key.address, key.port))
        self._add(key)
        return True

    def deregister(self, key: Key) -> bool:
        """Start draining a target: no new request reaches it. Returns False if it was not registered."""
        target = self._checked.pop(key, None)
        if target is None:
            return False
        target.stop()
        self._store.targets[key.group_arn].remove(Target(key.address, key.port))
        if self._store.users_of(key.group_arn):
            delay = target.group.deregistration_delay_seconds
            self._draining[key] = _Draining(asyncio.get_running_loop().time() + delay)
            self._is_draining.set()
        return True

    def health(self, key: Key) -> TargetHealth:
        """The health of a target, as in DescribeTargetHealth."""
        if key in self._draining:
            return DRAINING
        target = self._checked.get(key)
        if target is None:
            return NOT_REGISTERED
        return target.health if self._store.users_of(key.group_arn) else NOT_IN_USE

    def is_drained(self, key: Key) -> bool:
        """Whether a target can be stopped: it has no request in flight, or is not registered."""
        draining = self._draining.get(key)
        return draining.is_done if draining else key not in self._checked

    def places_in(self, group_arn: str) -> list[tuple[str, int]]:
        """Address and port of every target of a group, including draining ones."""
        return [(key.address, key.port) for key in (*self._checked, *self._draining) if key.group_arn == group_arn]

    def follow(self, attached: Mapping[str, LoadBalancer]) -> None:
        """Update the checks from the store; `attached` are the load balancers of target groups, by the groups' ARNs.

        A target is removed only when it is deregistered or its group is deleted.
        """
        for key in [key for key in self._checked if key.group_arn not in self._store.target_groups]:
            self._checked.pop(key).stop()
        for key in [key for key in self._draining if key.group_arn not in attached]:
            del self._draining[key]
        for key, target in self._checked.items():
            target.group = self._store.target_groups[key.group_arn]
            if key.group_arn in attached:
                target.zones = attached[key.group_arn].zones
                target.start()
            else:
                target.stop()

    def endpoints(self) -> dict[str, list[Endpoint]]:
        """Envoy's endpoints, by the ARN of their group."""
        states = {key: target.health.state for key, target in self._checked.items()}
        states |= dict.fromkeys(self._draining, State.DRAINING)
        result: dict[str, list[Endpoint]] = {}
        for key, state in states.items():
            endpoint = Endpoint(self._reachable(key.address), key.port, state)
            result.setdefault(key.group_arn, []).append(endpoint)
        return result

    def counts(self, group_arn: str) -> tuple[int, int] | None:
        """The numbers of healthy and unhealthy targets; new and draining ones are neither. None without targets."""
        states = [target.health.state for key, target in self._checked.items() if key.group_arn == group_arn]
        return (states.count(State.HEALTHY), states.count(State.UNHEALTHY)) if states else None

    async def watch_draining(self, envoy: Envoy) -> None:
        """Find draining targets without requests in flight, and remove those whose delay is over. One round."""
        await self._is_draining.wait()
        await asyncio.sleep(_DRAIN_POLL_SECONDS)
        now = asyncio.get_running_loop().time()
        over = [key for key, draining in self._draining.items() if now >= draining.deadline]
        for key in over:
            del self._draining[key]
        if over:
            self._changed()
        waiting = {key: draining for key, draining in self._draining.items() if not draining.is_done}
        if waiting:
            try:
                in_flight = await envoy.requests_in_flight()
            except (OSError, TimeoutError):
                return  # Envoy is restarting; the delay limits the wait.
            for key, draining in waiting.items():
                group = self._store.target_groups.get(key.group_arn)
                hosts = in_flight.get(group.full_name, {}) if group else {}
                is_draining, active = hosts.get((self._reachable(key.address), key.port), (True, 0))
                draining.is_done = is_draining and active == 0
        if not self._draining:
            self._is_draining.clear()

    def _add(self, key: Key) -> None:
        self._checked[key] = CheckedTarget(
            address=self._reachable(key.address),
            port=key.port,
            group=self._store.target_groups[key.group_arn],
            zones=1,
            on_change=self._changed,
            connect=functools.partial(self._connect_from_balancer, key.group_arn),
            background=self._background,
            registration_seconds=self._registration_seconds,
        )

    async def _connect_from_balancer(
        self, group_arn: str, address: str, port: int, *, tls: ssl.SSLContext | None, limit: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a target as its load balancer does."""
        return await self._connect(address, port, source=self._source_of(group_arn), tls=tls, limit=limit)
