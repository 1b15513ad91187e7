"""The network interfaces of load balancers, which are the source of requests and health checks.

On AWS a load balancer has a node in each zone; here it has one, in its first subnet.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from alva.errors import SubnetFull
from alva.region.addresses import Addresses
from alva.region.control_plane import ControlPlane
from alva.region.elb.records import LoadBalancer, LoadBalancerEvent
from alva.region.elb.store import Store
from alva.region.network import Interface, Network
from alva.region.network.records import read_records

logger = logging.getLogger(__name__)


class Interfaces:
    """Manages an interface for each load balancer of the store, if the network has any. Used on the event loop."""

    def __init__(self, store: Store, network: Network, addresses: Addresses, control_plane: ControlPlane) -> None:
        self._store = store
        self._control_plane = control_plane
        self._network = network
        self._pool = addresses
        self._addresses: dict[str, str | None] = {}

    @property
    def addresses(self) -> Mapping[str, str]:
        """The address of each load balancer, by its ARN; empty for a loopback network."""
        return {arn: address for arn, address in self._addresses.items() if address is not None}

    def are_outdated(self) -> bool:
        """Whether a load balancer was created or deleted."""
        return self._network.is_enforced and set(self._addresses) != set(self._store.load_balancers)

    async def follow(self) -> None:
        """Attach an interface for each new load balancer, and remove those of deleted ones."""
        if not self._network.is_enforced:
            return
        for arn, balancer in list(self._store.load_balancers.items()):
            if arn not in self._addresses:
                await self._attach(balancer)
        for arn in [arn for arn in self._addresses if arn not in self._store.load_balancers]:
            address = self._addresses.pop(arn)
            if address is not None:
                await self._network.detach(address)
                self._pool.release(address)

    async def _attach(self, balancer: LoadBalancer) -> None:
        arn = balancer.arn
        self._addresses[arn] = None
        subnets = (await read_records(self._control_plane)).subnets
        found = next((subnets[each.id] for each in balancer.subnets if each.id in subnets), None)
        try:
            address = self._pool.allocate(found["CidrBlock"]) if found is not None else None
        except SubnetFull as error:
            logger.error("load balancer %s has no address and reaches no target: %s", balancer.name, error.message)
            address = None
        if found is None or address is None:
            self._store.happened(arn, LoadBalancerEvent.NO_ADDRESS)
            return
        self._addresses[arn] = address
        await self._network.serve(
            Interface(
                address=address,
                subnet_id=found["SubnetId"],
                groups=lambda: each.security_groups if (each := self._store.load_balancers.get(arn)) else (),
                has_public_address=balancer.scheme == "internet-facing",
            )
        )
