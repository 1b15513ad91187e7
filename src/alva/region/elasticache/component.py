"""The component: the nodes of the replication groups, their resource types, and the operations that are refused."""

from __future__ import annotations

from ministack.services import elasticache

from alva.region.elasticache import api, resources
from alva.region.elasticache.caches import Caches


class CacheService(Caches):
    """ElastiCache in the region."""

    def install(self) -> None:
        """Register the resource types, and refuse unsupported operations."""
        resources.register(self)
        api.install()
        # MiniStack would restart containers at the first request; here `start` restarts the nodes.
        elasticache._ensure_live_containers = lambda: None
