"""The component: the servers of the DB instances, the API, and the resource types."""

from __future__ import annotations

from alva.region.engine_api import CommonApi
from alva.region.rds import api, resources
from alva.region.rds.databases import Databases


class DatabaseService(Databases):
    """RDS in the region."""

    def install(self) -> None:
        """Serve the API, and register the resource types."""
        common = CommonApi(self.store, api.parameters_of(self))
        self.region.services.replace("rds", api.api_of(self, common))
        resources.register(self, common)
