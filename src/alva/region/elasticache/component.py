"""The component: the nodes of the replication groups, the API, and the resource types."""

from __future__ import annotations

from alva.region.elasticache import api, resources
from alva.region.elasticache.caches import Caches
from alva.region.engine_api import CommonApi


class CacheService(Caches):
    """ElastiCache in the region."""

    def install(self) -> None:
        """Serve the API, and register the resource types."""
        common = CommonApi(self.store, api.PARAMETERS)
        self.region.services.replace("elasticache", api.api_of(common))
        resources.register(self, common)
