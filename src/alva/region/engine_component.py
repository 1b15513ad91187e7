"""What the components of RDS and ElastiCache share: records with servers, addresses and network interfaces."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from alva.region import engine_metrics
from alva.region.engine import EngineFailed
from alva.region.engine_api import subnets
from alva.region.engine_records import EngineRecord, Store
from alva.region.network import Interface, Namespace, NetworkFailed

if TYPE_CHECKING:
    from alva.region.region import Region

R = TypeVar("R", bound=EngineRecord)


class EngineComponent(ABC, Generic[R]):
    """Runs the servers of each record."""

    def __init__(self, region: Region, store: Store[R]) -> None:
        self.region = region
        self.store = store
        self._folder = region.config.state_folder / store.service
        self._metrics = engine_metrics.Publisher(region.background, store.service, self._measure)

    async def start(self) -> None:
        """Start the servers of every restored record, in parallel."""
        await asyncio.gather(*(self._restore(record) for record in self.store.engines.values() if record.addresses))
        self._metrics.start()

    async def stop(self) -> None:
        """Stop every server, and keep the data."""
        await self._metrics.stop()
        await self._stop_servers()

    def parameter_values(self, record: R) -> Mapping[str, str]:
        """The values that the record's parameter group sets."""
        group = self.store.parameter_groups.get(record.parameter_group)
        return group.values if group is not None else {}

    async def _restore(self, record: R) -> None:
        """Start the servers of a record. A failure is shown in its status, and the others still start."""
        try:
            places = await self._places(record, len(record.addresses))
            record.addresses = [
                self.region.addresses.restored(address, place["CidrBlock"])
                for address, place in zip(record.addresses, places, strict=True)
            ]
            record.zones = [place["AvailabilityZone"] for place in places]
            await self._resume(record)
        except Exception as error:
            record.status = self._failed_status
            self.region.background.failed(f"start {record}", error)

    async def _allocate(self, record: R, count: int) -> None:
        """Give addresses to a new record. Raises EngineFailed, SubnetFull."""
        places = await self._places(record, count)
        record.zones = [place["AvailabilityZone"] for place in places]
        for place in places:
            record.addresses.append(self.region.addresses.allocate(place["CidrBlock"]))

    async def _release(self, record: R, names: Iterable[str]) -> None:
        """Release the addresses and the DNS names of a deleted record."""
        for name in names:
            self.region.names.withdraw(name)
        for address in record.addresses:
            await self.region.network.detach(address)
            self.region.addresses.release(address)

    async def _attach(
        self, record: R, index: int = 0, managed_ports: tuple[int, ...] = (), hidden_ports: tuple[int, ...] = ()
    ) -> Namespace | None:
        """Attach the network interface of one address. Raises EngineFailed."""
        places = await self._places(record, len(record.addresses))
        interface = Interface(
            address=record.addresses[index],
            subnet_id=places[index]["SubnetId"],
            groups=lambda: record.security_groups,
            managed_ports=managed_ports,
            hidden_ports=hidden_ports,
        )
        try:
            return await self.region.network.attach(interface)
        except NetworkFailed as error:
            raise EngineFailed(f"cannot attach a network interface: {error}") from error

    async def _places(self, record: R, count: int) -> list[Mapping[str, Any]]:
        """The subnets of its addresses: one in its zone if possible, then the group's in turn. Raises EngineFailed."""
        group = self.store.subnet_groups.get(record.subnet_group)
        if group is None:
            raise EngineFailed(f"{self.store.prefix}SubnetGroup doesn't exist: {record.subnet_group}")
        found = await subnets(self.store, group.zones)
        if not found:
            raise EngineFailed(f"{self.store.prefix} subnet group {group.name} has no subnet that exists")
        first = next((i for i, each in enumerate(found) if each["AvailabilityZone"] in record.zones[:1]), 0)
        found.insert(0, found.pop(first))
        return [found[index % len(found)] for index in range(count)]

    _failed_status: str
    """The status of a record whose servers do not start."""

    @abstractmethod
    async def _resume(self, record: R) -> None:
        """Start the servers of a restored record. Raises EngineFailed."""

    @abstractmethod
    async def _stop_servers(self) -> None: ...

    @abstractmethod
    async def _measure(self) -> None: ...
