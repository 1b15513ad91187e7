"""The component `LoadBalancers`: what the rest of the region knows of load balancing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ministack.services import acm, alb

from alva.errors import RegionFailed
from alva.region.elb import api, cloudformation
from alva.region.elb.checker import REGISTRATION_SECONDS, CheckedTarget
from alva.region.elb.envoy import Envoy
from alva.region.elb.envoy_config import Endpoint, TlsProxy, configuration
from alva.region.elb.envoy_parts import Edge
from alva.region.elb.interfaces import Interfaces
from alva.region.elb.metrics import PUBLISH_SECONDS, AccessLog, Publisher
from alva.region.elb.reading import records_now, target_group_on_record, visitors_now
from alva.region.elb.records import Listener, LoadBalancer, Records
from alva.region.elb.target_health import DRAINING, NOT_IN_USE, NOT_REGISTERED, State, TargetHealth
from alva.region.elb.visitors import SilentPorts

if TYPE_CHECKING:
    from alva.region.certificates import Certificate
    from alva.region.network import Namespace
    from alva.region.server import Region

logger = logging.getLogger(__name__)

_DRAIN_POLL_SECONDS = 0.2
_RESTART_DELAY_SECONDS = 0.5
_VERIFICATION_SECONDS = 1.0

Key = tuple[str, str, int]
"""Target group ARN, address as it was registered, port."""


@dataclass
class _Draining:
    """A deregistered target: until when it is shown as draining, and whether nothing is left in flight."""

    deadline: float
    is_done: bool = False


class LoadBalancers:
    """Target groups with true health, and one Envoy that serves every listener of the region.

    All methods are called on the event loop.
    """

    def __init__(
        self,
        region: Region,
        *,
        registration_seconds: float = REGISTRATION_SECONDS,
        publish_seconds: float = PUBLISH_SECONDS,
    ) -> None:
        self._region = region
        self._registration_seconds = registration_seconds
        self._publish_seconds = publish_seconds
        machine = region.network.machine
        self._edge = Edge(
            port=region.config.edge_port,
            tls_port=region.config.edge_tls_port,
            namespace=machine.path if machine is not None else None,
        )
        self._envoy = Envoy(region.config, region.supervisor, region.network.services)
        self._interfaces = Interfaces(region.network, region.addresses)
        self._silent = SilentPorts()
        self._records = Records()
        self._visitors: dict[str, bool] = {}
        self._attached: dict[str, LoadBalancer] = {}
        """The load balancer of each attached target group, by ARN."""
        self._checked: dict[Key, CheckedTarget] = {}
        self._draining: dict[Key, _Draining] = {}
        self._tls_proxies: dict[str, TlsProxy] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_update_pending = False
        self._is_verification_pending = False
        self._rejected: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._drain_task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Register the elbv2 calls and the CloudFormation types."""
        api.install(self)
        cloudformation.install()

    async def start(self) -> None:
        """Start Envoy and the health checks for what the restored records say.

        Every restored target is checked anew, as one that was just registered. Raises RegionFailed when a port of the
        edge is taken, or Envoy does not start.
        """
        _require_free(self._edge.port, "ALVA_EDGE_PORT")
        _require_free(self._edge.tls_port, "ALVA_EDGE_TLS_PORT")
        self._loop = asyncio.get_running_loop()
        for arn, targets in alb._targets.items():
            for target in targets:
                self._add(arn, target["Id"], int(target["Port"]))
        await self._interfaces.follow()
        self._update()
        await self._envoy.start()
        self._spawn(self._keep_envoy_running(), "envoy")
        publisher = Publisher(
            AccessLog(self._envoy.access_log),
            self._host_counts,
            self._region.persistence.mark_changed,
            publish_seconds=self._publish_seconds,
        )
        self._spawn(publisher.run(), "load balancer metrics")

    async def stop(self) -> None:
        """Stop the health checks and Envoy; the records stay."""
        tasks, self._tasks = list(self._tasks), set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for target in self._checked.values():
            target.stop()
        self._checked.clear()
        self._draining.clear()
        self._loop = None
        self._silent.close()
        await self._envoy.stop()

    def register(self, target_group_arn: str, address: str, port: int) -> None:
        """Make address:port a target; a draining one becomes a new target again.

        Raises KeyError when there is no such target group.
        """
        if target_group_arn not in alb._tgs:
            raise KeyError(target_group_arn)
        key = (target_group_arn, address, port)
        if key in self._checked:
            return
        self._draining.pop(key, None)
        others = [item for item in alb._targets.get(target_group_arn, ()) if (item["Id"], int(item["Port"])) != key[1:]]
        alb._targets[target_group_arn] = [*others, {"Id": address, "Port": port}]
        self._region.persistence.mark_changed()
        self._add(*key)
        self.changed()

    def deregister(self, target_group_arn: str, address: str, port: int) -> None:
        """Start draining a target: no new request reaches it. Unknown targets and groups are ignored."""
        key = (target_group_arn, address, port)
        target = self._checked.pop(key, None)
        if target is None:
            return
        target.stop()
        alb._targets[target_group_arn] = [
            item for item in alb._targets.get(target_group_arn, ()) if (item["Id"], int(item["Port"])) != key[1:]
        ]
        self._region.persistence.mark_changed()
        if self._loop is not None and _is_attached(target_group_arn):
            delay = target.group.deregistration_delay_seconds
            self._draining[key] = _Draining(self._loop.time() + delay)
            if self._drain_task is None or self._drain_task.done():
                self._drain_task = self._spawn(self._watch_draining(), "draining targets")
        self.changed()

    def health(self, target_group_arn: str, address: str, port: int) -> TargetHealth:
        """What DescribeTargetHealth would show of this target."""
        key = (target_group_arn, address, port)
        if key in self._draining:
            return DRAINING
        target = self._checked.get(key)
        if target is None:
            return NOT_REGISTERED
        return target.health if _is_attached(target_group_arn) else NOT_IN_USE

    def is_drained(self, target_group_arn: str, address: str, port: int) -> bool:
        """Whether a deregistered target may be stopped.

        True once the deregistration delay is over, or once Envoy has stopped routing to it and no request is in
        flight; also for what is not registered at all. On AWS too, a target without requests in flight is done at
        once, though it is shown as draining until the delay is over.
        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html#deregistration-delay
        """
        key = (target_group_arn, address, port)
        draining = self._draining.get(key)
        return draining.is_done if draining else key not in self._checked

    def targets(self, target_group_arn: str) -> list[tuple[str, int]]:
        """Address and port of every target that DescribeTargetHealth shows, the draining ones included."""
        return [key[1:] for key in (*self._checked, *self._draining) if key[0] == target_group_arn]

    def tls_proxy(
        self,
        name: str,
        address: str,
        port: int,
        upstream_address: str,
        upstream_port: int,
        certificate: Certificate,
        namespace: Namespace | None = None,
    ) -> None:
        """Listen on address:port with TLS and pass the bytes on to upstream_address:upstream_port in plain text.

        `namespace` is the network in which it listens, when that is not the services'. `name` identifies the proxy; the
        same name again replaces it. It is served once Envoy runs, and again after a restart of Envoy, but not
        remembered over a restart of the region.
        """
        self._tls_proxies[name] = TlsProxy(
            name=name,
            address=address,
            port=port,
            upstream_address=upstream_address,
            upstream_port=upstream_port,
            certificate=certificate,
            namespace=namespace.path if namespace is not None else None,
        )
        self.changed()

    def remove_tls_proxy(self, name: str) -> None:
        """Stop listening; unknown names are ignored."""
        if self._tls_proxies.pop(name, None):
            self.changed()

    def free_dns_name(self) -> str:
        """The DNS name of the next load balancer: 127.0.0.1 with the edge port; of further ones, other addresses.

        An address with its port, unlike a name of AWS's, opens in a browser on this machine.
        """
        taken = {record["DNSName"] for record in alb._lbs.values()}
        octet, port = self._region.config.loopback_octet, self._edge.port
        candidates = ["127.0.0.1", *(f"127.{octet}.254.{number}" for number in range(1, 255))]
        return next(f"{address}:{port}" for address in candidates if f"{address}:{port}" not in taken)

    def changed(self) -> None:
        """Bring the data plane to what the records say, soon; may be called from any thread."""
        if self._loop is not None and not self._is_update_pending:
            self._is_update_pending = True
            self._loop.call_soon_threadsafe(self._update_soon)

    def security_groups_may_have_changed(self) -> None:
        """Bring the edge to what the security groups say, soon, if that is something else about visitors now."""
        if visitors_now() != self._visitors:
            self.changed()

    def _update_soon(self) -> None:
        self._is_update_pending = False
        if self._loop is not None:
            try:
                self._update()
            except Exception:
                logger.exception("cannot configure the load balancer")
            if self._interfaces.are_outdated():
                self._spawn(self._follow_interfaces(), "interfaces of load balancers")

    async def _follow_interfaces(self) -> None:
        """Give new load balancers their interface, then use it."""
        try:
            await self._interfaces.follow()
            self._update()
        except Exception:
            logger.exception("cannot give a load balancer its network interface")

    def _update(self) -> None:
        self._records, self._visitors = records_now(), visitors_now()
        attached = self._records.attached()
        self._attached = {arn: balancers[0] for arn, balancers in attached.items()}
        for key in [key for key in self._checked if key[0] not in self._records.target_groups]:
            self._checked.pop(key).stop()
        for key in [key for key in self._draining if key[0] not in self._attached]:
            del self._draining[key]
        for key, target in self._checked.items():
            target.group = self._records.target_groups[key[0]]
            if key[0] in self._attached:
                target.zones = self._attached[key[0]].zones
                target.start()
            else:
                target.stop()
        self._configure()

    def _configure(self) -> None:
        endpoints: dict[str, list[Endpoint]] = {}
        for (arn, address, port), target in self._checked.items():
            endpoints.setdefault(arn, []).append(Endpoint(self._reachable(address), port, target.health.state))
        for arn, address, port in self._draining:
            endpoints.setdefault(arn, []).append(Endpoint(self._reachable(address), port, DRAINING.state))
        certificates = {
            listener.arn: self._certificate(listener)
            for load_balancer in self._records.load_balancers
            for listener in load_balancer.listeners
            if listener.protocol == "HTTPS"
        }
        self._silent.open_others(
            {
                (load_balancer.address, self._edge.port_of(listener.port))
                for load_balancer in self._records.load_balancers
                for listener in load_balancer.listeners
                if not listener.lets_visitors_in
            }
        )
        is_new = self._envoy.write(
            configuration(
                self._records,
                endpoints,
                self._tls_proxies.values(),
                certificates,
                self._interfaces.addresses,
                edge=self._edge,
                files=self._envoy.files,
                access_log=self._envoy.access_log,
            )
        )
        if self._loop is not None and self._silent.are_missing:
            self._spawn(self._silent.take(), "ports on which nobody answers")
        if is_new and self._loop is not None and not self._is_verification_pending:
            self._is_verification_pending = True
            self._spawn(self._verify_soon(), "verification of Envoy's configuration")

    def _host_counts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """How many targets of each attached group are healthy and unhealthy; new and draining ones are neither."""
        counts: dict[tuple[str, str], tuple[int, int]] = {}
        for arn, balancers in self._records.attached().items():
            states = [target.health.state for key, target in self._checked.items() if key[0] == arn]
            # A group without any target has no such metric.
            if states:
                names = (balancers[0].full_name, self._records.target_groups[arn].full_name)
                counts[names] = (states.count(State.HEALTHY), states.count(State.UNHEALTHY))
        return counts

    def _add(self, arn: str, address: str, port: int) -> None:
        key = (arn, address, port)
        self._checked[key] = CheckedTarget(
            address=self._reachable(address),
            port=port,
            group=target_group_on_record(arn),
            zones=1,
            on_change=self._health_changed,
            connect=functools.partial(self._connect, arn),
            registration_seconds=self._registration_seconds,
        )

    async def _connect(
        self, target_group_arn: str, address: str, port: int, *, tls: ssl.SSLContext | None, limit: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a target as its load balancer does."""
        balancer = self._attached.get(target_group_arn)
        source = self._interfaces.addresses.get(balancer.arn) if balancer is not None else None
        return await self._region.network.open_connection(address, port, source=source, tls=tls, limit=limit)

    def _health_changed(self) -> None:
        if self._loop is not None:
            self._configure()

    def _reachable(self, address: str) -> str:
        """Where a target of the VPC answers on this machine."""
        return address if address.startswith("127.") else self._region.addresses.here(address)

    def _certificate(self, listener: Listener) -> Certificate:
        """A certificate of the region's authority for the names of the ACM certificate and of this machine."""
        record = acm._certificates.get(listener.certificate_arn) or {}
        names = [record.get("DomainName"), *(record.get("SubjectAlternativeNames") or ())]
        unique = dict.fromkeys([*(name for name in names if name), "localhost", "127.0.0.1"])
        return self._region.certificates.issue(*unique)

    async def _verify_soon(self) -> None:
        """Say so when Envoy refused a part of its configuration: it then keeps serving the previous one."""
        await asyncio.sleep(_VERIFICATION_SECONDS)
        self._is_verification_pending = False
        with contextlib.suppress(OSError, TimeoutError):
            rejected = await self._envoy.rejected_updates()
            if rejected - self._rejected:
                logger.error(
                    "Envoy refused its configuration (%s); see %s",
                    ", ".join(sorted(name for name, _ in rejected)),
                    self._envoy.log_file,
                )
            self._rejected = rejected

    async def _watch_draining(self) -> None:
        """Notice which draining targets have no request left, and forget those whose delay is over."""
        loop = asyncio.get_running_loop()
        while self._draining:
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
            over = [key for key, draining in self._draining.items() if loop.time() >= draining.deadline]
            for key in over:
                del self._draining[key]
            if over:
                self._configure()
            waiting = {key: draining for key, draining in self._draining.items() if not draining.is_done}
            if not waiting:
                continue
            try:
                in_flight = await self._envoy.requests_in_flight()
            except (OSError, TimeoutError):
                continue  # Envoy is being restarted; the delay bounds the wait.
            for (arn, address, port), draining in waiting.items():
                group = self._records.target_groups.get(arn)
                hosts = in_flight.get(group.full_name, {}) if group else {}
                is_draining, active = hosts.get((self._reachable(address), port), (True, 0))
                draining.is_done = is_draining and active == 0

    async def _keep_envoy_running(self) -> None:
        """Start Envoy again if it ends by itself: on AWS, load balancer nodes are replaced unseen."""
        while True:
            process = self._envoy.process
            if process is None:
                return
            ended = await process.wait()
            logger.error("Envoy ended with exit code %s; starting it again", ended.code)
            await asyncio.sleep(_RESTART_DELAY_SECONDS)
            try:
                await self._envoy.start()
            except Exception:
                logger.exception("cannot start Envoy again")

    def _spawn(self, work: object, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _require_free(port: int, variable: str) -> None:
    """Envoy would only log that it cannot listen; better not to start."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise RegionFailed(
                f"cannot start the load balancer: port {port} is in use",
                evidence=[f"127.0.0.1:{port}: {error.strerror}"],
                next_step=f"end what listens there, or choose another port with {variable}",
            ) from error


def _is_attached(target_group_arn: str) -> bool:
    """Whether a rule routes to the target group now, be the data plane up to date or not."""
    return bool((alb._tgs.get(target_group_arn) or {}).get("LoadBalancerArns"))
