"""The component: the servers of the DB instances, their resource types, and the operations that act on servers."""

from __future__ import annotations

from ministack.services import rds

from alva.region.rds import api, resources
from alva.region.rds.databases import Databases


class DatabaseService(Databases):
    """RDS in the region."""

    def install(self) -> None:
        """Register the resource types and the operations that act on servers."""
        resources.register(self)
        api.install(self)
        # MiniStack would restart containers; here `start` restarts the servers.
        rds.load_persisted_state = lambda data: rds._restore_state(data, resume_runtime=False)
