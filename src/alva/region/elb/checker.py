"""Sends health checks directly to each target, without the listener rules, like the load balancer's nodes on AWS."""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from alva.region.background import Background
from alva.region.elb.records import HealthCheck, TargetGroup
from alva.region.elb.target_health import (
    FAILED,
    INITIAL_HEALTH_CHECKING,
    REGISTRATION_IN_PROGRESS,
    SUCCESS,
    TIMED_OUT,
    CheckedHealth,
    CheckResult,
    State,
    TargetHealth,
    code_mismatch,
    matches,
)

REGISTRATION_SECONDS = 1.0
"""Time from RegisterTargets to a target's first check. AWS publishes no figure; there it takes a few seconds."""
_NEW_TARGET_SECONDS = 0.5
"""The longest interval between checks of a new target."""

_LONGEST_HEAD = 64 * 1024


class Connect(Protocol):
    """Opens a TCP connection, with TLS where a context is given."""

    async def __call__(
        self, address: str, port: int, *, tls: ssl.SSLContext | None, limit: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...


@dataclass
class CheckedTarget:
    """Checks one target. `zones` is the number of nodes that would check it on AWS, each at its own time.

    So checks of a new target count `zones` times in an interval until it is healthy or has failed on every node. After
    that all nodes would see the same, and one check in an interval is enough. Further checks of a new target, whose
    failures do not count, find sooner that it is healthy.
    """

    address: str
    port: int
    group: TargetGroup
    zones: int
    on_change: Callable[[], None]
    connect: Connect
    """Opens a connection to it from its load balancer's network."""
    background: Background
    checked: CheckedHealth = field(default_factory=CheckedHealth)
    registration_seconds: float = REGISTRATION_SECONDS
    _task: asyncio.Task[None] | None = None
    _counted_at: float = -math.inf
    """When the latest check that counts was sent, in the event loop's time."""

    @property
    def health(self) -> TargetHealth:
        """The health after the latest check."""
        return self.checked.health

    def start(self) -> None:
        """Start to check it, as a new target."""
        if self._task is None:
            self.checked, self._counted_at = CheckedHealth(), -math.inf
            name = f"check the health of {self.address}:{self.port}"
            self._task = self.background.run_forever(name, self._check_once)

    def stop(self) -> None:
        """Stop checking, and keep the health."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _check_once(self) -> None:
        if self.health == REGISTRATION_IN_PROGRESS:
            await asyncio.sleep(self.registration_seconds)
            self._become(replace(self.checked, health=INITIAL_HEALTH_CHECKING))
        loop = asyncio.get_running_loop()
        started = loop.time()
        check = self.group.health_check
        result = await check_target(self.address, self.port, check, self.connect)
        is_new = self.health.state is State.INITIAL
        nodes = self.zones if is_new else 1
        interval = check.interval_seconds / nodes
        # A timer may fire a little early.
        if result == SUCCESS or not is_new or started >= self._counted_at + 0.9 * interval:
            self._become(self.checked.after(result, check.healthy_threshold, check.unhealthy_threshold * nodes))
            self._counted_at = started
        is_new = self.health.state is State.INITIAL
        pause = min(interval, _NEW_TARGET_SECONDS) if is_new else check.interval_seconds
        await asyncio.sleep(max(0.0, started + pause - loop.time()))

    def _become(self, checked: CheckedHealth) -> None:
        changed = checked.health != self.checked.health
        self.checked = checked
        if changed:
            self.on_change()


async def check_target(address: str, port: int, check: HealthCheck, connect: Connect) -> CheckResult:
    """Send one health check request; returns its result."""
    check_port = port if check.port == "traffic-port" else int(check.port)
    try:
        async with asyncio.timeout(check.timeout_seconds):
            status_code = await _get(address, check_port, check, connect)
    except TimeoutError:
        return TIMED_OUT
    except (OSError, ValueError, EOFError, asyncio.LimitOverrunError):
        return FAILED
    return SUCCESS if matches(check.matcher, status_code) else code_mismatch(status_code)


async def _get(address: str, port: int, check: HealthCheck, connect: Connect) -> int:
    """The status code of one GET request on a new connection."""
    context = _unverified() if check.protocol == "HTTPS" else None
    reader, writer = await connect(address, port, tls=context, limit=_LONGEST_HEAD)
    try:
        writer.write(
            f"GET {check.path} HTTP/1.1\r\n"
            f"Host: {address}:{port}\r\n"
            "Connection: close\r\n"
            "User-Agent: ELB-HealthChecker/2.0\r\n"
            "Accept-Encoding: gzip, compressed\r\n\r\n".encode()
        )
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    version, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not an HTTP answer: {version!r}")
    return int(rest[:3])


def _unverified() -> ssl.SSLContext:
    # A load balancer does not verify its targets' certificates.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
