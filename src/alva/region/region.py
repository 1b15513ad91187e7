"""The class `Region`: the values for constructing a component."""

from __future__ import annotations

from dataclasses import dataclass, field

from alva.region.addresses import Addresses
from alva.region.asgi import ASGIApplication
from alva.region.background import Background
from alva.region.certificates import CertificateAuthority
from alva.region.cloudformation.registry import Registry
from alva.region.cloudwatch.metrics import Metrics
from alva.region.config import RegionConfig
from alva.region.images.store import ImageStore
from alva.region.load_balancing import LoadBalancing
from alva.region.memory import MemoryLimits
from alva.region.names import Names
from alva.region.network import Network
from alva.region.persistence import Persistence
from alva.region.service_table import ServiceTable
from alva.region.supervisor import Supervisor


@dataclass
class Region:
    """The values that every component gets when it is constructed."""

    config: RegionConfig
    background: Background
    """Runs every loop, and every job that is not awaited."""
    supervisor: Supervisor
    network: Network
    memory: MemoryLimits
    addresses: Addresses
    names: Names
    certificates: CertificateAuthority
    images: ImageStore
    services: ServiceTable
    """`services.replace(name, service)` in a component's `install` serves an API in place of MiniStack's."""
    persistence: Persistence
    """`persistence.mark_changed()` after a change of state outside an API request, for example when a task stops."""
    metrics: Metrics = field(default_factory=Metrics)
    """CloudWatch's data points."""
    load_balancers: LoadBalancing = field(init=False)
    """Set before any component's `install`."""
    resource_types: Registry = field(default_factory=Registry)
    """CloudFormation's types that components add, in their `install`."""
    serve_websocket: ASGIApplication | None = None
    """The handler of WebSockets at the API's port, set by the component that has one."""
    serve_registry: ASGIApplication | None = None
    """The handler of paths below /v2/ at the API's port: ECR's registry."""
