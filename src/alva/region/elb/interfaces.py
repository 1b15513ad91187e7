"""The network interfaces of load balancers: the addresses that they send requests and health checks from.

Of the nodes that a load balancer has on AWS, one in each zone, there is one here, in its first subnet.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ministack.services import alb

from alva.errors import SubnetFull
from alva.region.addresses import Addresses
from alva.region.network import Interface, Network
from alva.region.network.records import subnet

logger = logging.getLogger(__name__)


class Interfaces:
    """Keeps an interface per load balancer on record, where the network has any. Used on the event loop."""

    def __init__(self, network: Network, addresses: Addresses) -> None:
        self._network = network
        self._pool = addresses
        self._addresses: dict[str, str | None] = {}

    @property
    def addresses(self) -> Mapping[str, str]:
        """The address of each load balancer, by its ARN; none where the network has no addresses of its own."""
        return {arn: address for arn, address in self._addresses.items() if address is not None}

    def are_outdated(self) -> bool:
        """Whether a load balancer came or went."""
        return self._network.is_enforced and set(self._addresses) != set(_on_record())

    async def follow(self) -> None:
        """Attach an interface for every load balancer that has none, and take away those of deleted ones."""
        if not self._network.is_enforced:
            return
        balancers = _on_record()
        for arn, record in balancers.items():
            if arn not in self._addresses:
                await self._attach(arn, record)
        for arn in [arn for arn in self._addresses if arn not in balancers]:
            address = self._addresses.pop(arn)
            if address is not None:
                await self._network.detach(address)
                self._pool.release(address)

    async def _attach(self, arn: str, record: dict[str, Any]) -> None:
        self._addresses[arn] = None
        found = next((found for each in record.get("Subnets") or () if (found := subnet(each))), None)
        if found is None:
            logger.warning(
                "load balancer %s is in no subnet that exists: it reaches nobody", record["LoadBalancerName"]
            )
            return
        try:
            address = self._pool.allocate(found["CidrBlock"])
        except SubnetFull as error:
            logger.error("load balancer %s reaches nobody: %s", record["LoadBalancerName"], error.message)
            return
        self._addresses[arn] = address
        await self._network.serve(
            Interface(
                address=address,
                subnet_id=found["SubnetId"],
                groups=lambda: record.get("SecurityGroups") or (),
                has_public_address=record.get("Scheme") == "internet-facing",
            )
        )


def _on_record() -> dict[str, dict[str, Any]]:
    return {key[-1]: record for key, record in list(alb._lbs._data.items())}
