"""The component `LoadBalancers`: the elbv2 API and its data plane, which replace MiniStack's."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from alva.region.background import end
from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.elb import cloudformation
from alva.region.elb.api import Api
from alva.region.elb.checker import REGISTRATION_SECONDS
from alva.region.elb.clients import SilentPorts, admitted_clients
from alva.region.elb.envoy import Envoy
from alva.region.elb.envoy_config import TlsProxy, configuration
from alva.region.elb.envoy_parts import Edge
from alva.region.elb.interfaces import Interfaces
from alva.region.elb.metrics import PUBLISH_SECONDS, AccessLog, Publisher
from alva.region.elb.records import Listener, LoadBalancer, LoadBalancerEvent, Records
from alva.region.elb.store import Store
from alva.region.elb.target_health import TargetHealth
from alva.region.elb.targets import Key, TargetTable
from alva.region.network.records import read_groups, read_records
from alva.region.ports import port_in_use
from alva.region.query_protocol import Response

if TYPE_CHECKING:
    from alva.region.certificates import Certificate
    from alva.region.network import Namespace
    from alva.region.network.rules import Group
    from alva.region.region import Region

logger = logging.getLogger(__name__)

_RESTART_DELAY_SECONDS = 0.5
_VERIFICATION_SECONDS = 1.0


class LoadBalancers:
    """Target groups with health checks, and one Envoy that serves every listener of the region.

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
        self._publish_seconds = publish_seconds
        config = region.config
        self.store = Store(config.account_id, config.region)
        self._control_plane = ControlPlane(config.account_id, config.region)
        self.api = Api(self.store, self, self._certificate_names, self.free_dns_name, self._stored)
        machine = region.network.machine
        self._edge = Edge(
            port=config.edge_port,
            tls_port=config.edge_tls_port,
            namespace=machine.path if machine is not None else None,
        )
        self._envoy = Envoy(config, region.supervisor, region.network.services)
        self._interfaces = Interfaces(self.store, region.network, region.addresses, self._control_plane)
        self._targets = TargetTable(
            self.store,
            region.background,
            connect=region.network.open_connection,
            reachable=self._reachable,
            source_of=self._source_of,
            changed=self._health_changed,
            registration_seconds=registration_seconds,
        )
        self._silent = SilentPorts()
        self._records = Records()
        """The records that Envoy is configured for."""
        self._admitted_clients: dict[str, bool] = {}
        self._attached: dict[str, LoadBalancer] = {}
        """The load balancer of each attached target group, by the group's ARN."""
        self._tls_proxies: dict[str, TlsProxy] = {}
        self._is_started = False
        self._updating = asyncio.Lock()
        self._is_update_pending = False
        self._is_check_pending = False
        self._is_written = asyncio.Event()
        """Whether Envoy has a new configuration to accept or reject."""
        self._rejected: set[tuple[str, str]] = set()
        self._loops: list[asyncio.Task[None]] = []

    # Component

    def install(self) -> None:
        """Serve elbv2's API, and register its resource types."""
        self._region.services.replace("elasticloadbalancing", self)
        cloudformation.install(self._region.resource_types, self.api, self.store)

    async def start(self) -> None:
        """Start Envoy and the health checks for the restored records.

        Every restored target is checked like a new one. Raises RegionFailed when a port of the edge is in use, or Envoy
        does not start.
        """
        _require_free(self._edge.port, "ALVA_EDGE_PORT")
        _require_free(self._edge.tls_port, "ALVA_EDGE_TLS_PORT")
        self._is_started = True
        await self._complete_records()
        self._targets.restore()
        await self._interfaces.follow()
        await self._update()
        await self._envoy.start()
        self._publisher = Publisher(
            self._region.metrics,
            AccessLog(self._envoy.access_log),
            self._host_counts,
            self._region.persistence.mark_changed,
            publish_seconds=self._publish_seconds,
        )
        run_forever = self._region.background.run_forever
        self._loops = [
            run_forever("keep Envoy running", self._keep_envoy_running),
            run_forever("configure Envoy", self._verify_configuration),
            run_forever("publish the metrics of load balancers", self._publisher.publish_and_wait),
            run_forever("watch draining targets", lambda: self._targets.watch_draining(self._envoy)),
        ]

    async def stop(self) -> None:
        """Stop the health checks and Envoy, and keep the records."""
        await end(*self._loops)
        self._targets.stop()
        self._is_started = False
        self._silent.close()
        await self._envoy.stop()

    # The interface of a service in MiniStack

    async def handle_request(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        """Answer one API request."""
        return await self.api.handle_request(method, path, headers, body, query_params)

    def get_state(self) -> dict[str, Any]:
        """The state as JSON values."""
        return self.store.as_json()

    def load_persisted_state(self, data: dict[str, Any]) -> None:
        """Restore the result of `get_state`; called before `start`."""
        self.store.restore(data)

    def reset(self) -> None:
        """Delete all records; for tests without a data plane."""
        self.store.clear()

    # Targets

    def register(self, target_group_arn: str, address: str, port: int) -> None:
        """Register address:port as a target; a draining one becomes a new target again.

        Raises KeyError for an unknown target group.
        """
        if target_group_arn not in self.store.target_groups:
            raise KeyError(target_group_arn)
        if self._targets.register(Key(target_group_arn, address, port)):
            self._stored()

    def deregister(self, target_group_arn: str, address: str, port: int) -> None:
        """Start draining a target: no new request reaches it. Unknown targets and groups are ignored."""
        if self._targets.deregister(Key(target_group_arn, address, port)):
            self._stored()

    def health(self, target_group_arn: str, address: str, port: int) -> TargetHealth:
        """The target's health, as in DescribeTargetHealth."""
        return self._targets.health(Key(target_group_arn, address, port))

    def is_drained(self, target_group_arn: str, address: str, port: int) -> bool:
        """Whether a deregistered target may be stopped.

        True once the deregistration delay is over, or Envoy has stopped routing to it and no request is in flight; also
        for a target that is not registered. On AWS too, a target without requests in flight can stop at once, though it
        is shown as draining until the delay is over.
        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html#deregistration-delay
        """
        return self._targets.is_drained(Key(target_group_arn, address, port))

    def targets(self, target_group_arn: str) -> list[tuple[str, int]]:
        """Address and port of every target in DescribeTargetHealth, including draining ones."""
        return self._targets.places_in(target_group_arn)

    # TLS proxies

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
        """Listen on address:port with TLS and forward the bytes to upstream_address:upstream_port in plain text.

        `namespace` is the network namespace to listen in, if it is not the services'. `name` identifies the proxy; a
        second call with it replaces the proxy. A proxy survives a restart of Envoy, not one of the region.
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
        """Remove a TLS proxy; unknown names are ignored."""
        if self._tls_proxies.pop(name, None):
            self.changed()

    # From the store to the data plane

    def free_dns_name(self) -> str:
        """The DNS name of a new load balancer: the first is 127.0.0.1 with the edge port, further ones have other
        addresses.

        Unlike one of AWS's names, an address with its port opens in a browser on this machine.
        """
        taken = {balancer.dns_name for balancer in self.store.load_balancers.values()}
        octet, port = self._region.config.loopback_octet, self._edge.port
        candidates = ["127.0.0.1", *(f"127.{octet}.254.{number}" for number in range(1, 255))]
        return next(f"{address}:{port}" for address in candidates if f"{address}:{port}" not in taken)

    def changed(self) -> None:
        """Update the data plane from the store, soon."""
        if self._is_started and not self._is_update_pending:
            self._is_update_pending = True
            asyncio.get_running_loop().call_soon(self._update_soon, context=self._region.background.context)

    def security_groups_may_have_changed(self) -> None:
        """Update the edge, soon, if the security groups admit other clients than before."""
        if self._is_started and self.store.load_balancers and not self._is_check_pending:
            self._is_check_pending = True
            self._region.background.spawn("read the security groups of load balancers", self._check_admission())

    async def _check_admission(self) -> None:
        self._is_check_pending = False
        if admitted_clients(self.store, await read_groups(self._control_plane)) != self._admitted_clients:
            self.changed()

    def _stored(self) -> None:
        """Save the changed store, and update the data plane."""
        self._region.persistence.mark_changed()
        self.changed()

    def _update_soon(self) -> None:
        self._is_update_pending = False
        if self._is_started:
            self._region.background.spawn("configure the load balancers", self._reconcile())

    async def _reconcile(self) -> None:
        """Update the data plane, and again once new load balancers have their interfaces."""
        await self._update()
        if self._interfaces.are_outdated():
            await self._interfaces.follow()
            await self._update()

    async def _update(self) -> None:
        async with self._updating:
            self._apply(await read_groups(self._control_plane))

    def _apply(self, groups: Mapping[str, Group]) -> None:
        self._admitted_clients = admitted_clients(self.store, groups)
        records = self.store.records()
        self._records = replace(
            records, load_balancers=tuple(self._with_admission(each) for each in records.load_balancers)
        )
        self._attached = {arn: balancers[0] for arn, balancers in self._records.attached().items()}
        self._targets.follow(self._attached)
        self._configure()
        for balancer in self._records.load_balancers:
            has_address = not self._region.network.is_enforced or balancer.arn in self._interfaces.addresses
            if has_address and self.store.happened(balancer.arn, LoadBalancerEvent.CONFIGURED):
                self._region.persistence.mark_changed()

    def _with_admission(self, balancer: LoadBalancer) -> LoadBalancer:
        listeners = (replace(each, admits_clients=self._admitted_clients[each.arn]) for each in balancer.listeners)
        return replace(balancer, listeners=tuple(listeners))

    def _configure(self, *, is_repeated: bool = False) -> None:
        listeners = [(each, listener) for each in self._records.load_balancers for listener in each.listeners]
        certificates = {
            listener.arn: self._certificate(listener) for _, listener in listeners if listener.protocol == "HTTPS"
        }
        self._silent.open_others(
            {
                (balancer.address, self._edge.port_of(listener.port))
                for balancer, listener in listeners
                if not listener.admits_clients
            }
        )
        is_new = self._envoy.write(
            configuration(
                self._records,
                self._targets.endpoints(),
                self._tls_proxies.values(),
                certificates,
                self._interfaces.addresses,
                edge=self._edge,
                files=self._envoy.files,
                access_log=self._envoy.access_log,
            ),
            is_repeated=is_repeated,
        )
        if not self._is_started:
            return
        if self._silent.are_missing:
            self._region.background.spawn("take the ports without an admitted client", self._silent.take())
        if is_new:
            self._is_written.set()

    def _health_changed(self) -> None:
        if self._is_started:
            self._configure()

    def _host_counts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """The numbers of healthy and unhealthy targets, by the full names of load balancer and target group."""
        return {
            (balancer.full_name, self._records.target_groups[arn].full_name): counts
            for arn, balancer in self._attached.items()
            if (counts := self._targets.counts(arn)) is not None
        }

    def _source_of(self, target_group_arn: str) -> str | None:
        """The source address of a target group's load balancer; None is any."""
        balancer = self._attached.get(target_group_arn)
        return self._interfaces.addresses.get(balancer.arn) if balancer is not None else None

    def _reachable(self, address: str) -> str:
        """The address on this machine of a target in the VPC."""
        return address if address.startswith("127.") else self._region.addresses.local_form(address)

    # Certificates

    async def _certificate_names(self, arn: str) -> tuple[str, ...] | None:
        """The domain names of a certificate in ACM; None for an unknown ARN."""
        try:
            answer = await self._control_plane.call("acm", "DescribeCertificate", CertificateArn=arn)
        except ServiceError:
            return None
        certificate = answer["Certificate"]
        names = [certificate.get("DomainName"), *(certificate.get("SubjectAlternativeNames") or ())]
        return tuple(dict.fromkeys(name for name in names if name))

    async def _complete_records(self) -> None:
        """Look up what an earlier version of alva did not save: the zones of subnets and the names of certificates."""
        if self.store.load_balancers:
            self.store.set_zones((await read_records(self._control_plane)).subnets)
        for listener in list(self.store.listeners()):
            if listener.certificate_arn and not listener.certificate_names:
                names = await self._certificate_names(listener.certificate_arn)
                self.store.put_listener(replace(listener, certificate_names=names or ()))

    def _certificate(self, listener: Listener) -> Certificate:
        """A certificate of the region's authority for the names of the ACM certificate and this machine."""
        return self._region.certificates.issue(*dict.fromkeys([*listener.certificate_names, "localhost", "127.0.0.1"]))

    # Envoy

    async def _verify_configuration(self) -> None:
        """Write the configuration again if Envoy has rejected a part of it. Meanwhile Envoy serves the previous one.

        A port can be taken for a moment. Raises RuntimeError, so the loop waits longer after each rejection.
        """
        await self._is_written.wait()
        await asyncio.sleep(_VERIFICATION_SECONDS)
        self._is_written.clear()
        try:
            rejected = await self._envoy.rejected_updates()
        except (OSError, TimeoutError):
            return
        is_new, self._rejected = bool(rejected - self._rejected), rejected
        if is_new:
            self._configure(is_repeated=True)
            names = ", ".join(sorted(name for name, _ in rejected))
            raise RuntimeError(f"Envoy rejected its configuration ({names}); see {self._envoy.log_file}")

    async def _keep_envoy_running(self) -> None:
        """Restart Envoy when it ends unexpectedly, as AWS replaces the nodes of load balancers."""
        process = self._envoy.process
        if process is not None:
            ended = await process.wait()
            logger.error("Envoy ended with exit code %s; restarting it", ended.code)
        await asyncio.sleep(_RESTART_DELAY_SECONDS)
        await self._envoy.start()


def _require_free(port: int, variable: str) -> None:
    """Raise RegionFailed for a port that is in use; Envoy would only log that it cannot listen."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise port_in_use("start the load balancer", "127.0.0.1", port, variable, error) from error
