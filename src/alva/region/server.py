"""The region as one object: what its parts share, and the order in which they are started and stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alva.region.config import RegionConfig

if TYPE_CHECKING:
    from alva.region.addresses import Addresses
    from alva.region.certificates import CertificateAuthority
    from alva.region.elb import LoadBalancers
    from alva.region.images.store import ImageStore
    from alva.region.names import Names
    from alva.region.persistence import Persistence
    from alva.region.supervisor import Supervisor


@dataclass
class Region:
    """What every component is constructed with."""

    config: RegionConfig
    supervisor: Supervisor
    addresses: Addresses
    names: Names
    certificates: CertificateAuthority
    images: ImageStore
    persistence: Persistence
    """`persistence.mark_changed()` after state changed outside an API request (a task that stopped, say)."""
    load_balancers: LoadBalancers = field(init=False)
    """Set before any component's `install`."""
