"""The component `ContainerService`: the region's ECS, which replaces MiniStack's."""

from __future__ import annotations

from typing import Any

from alva.region.control_plane import ControlPlane
from alva.region.ecs import cloudformation, session_manager
from alva.region.ecs.api import Api
from alva.region.ecs.controller import Controller
from alva.region.ecs.exec_sessions import ExecSessions
from alva.region.ecs.metadata import MetadataEndpoint
from alva.region.ecs.scheduler import Timing
from alva.region.ecs.state import State
from alva.region.json_protocol import Response
from alva.region.region import Region


class ContainerService:
    """ECS: its API, its CloudFormation types, its services and tasks."""

    def __init__(self, region: Region, timing: Timing | None = None) -> None:
        self._region = region
        config = region.config
        self.state = State(account_id=config.account_id, region=config.region)
        control_plane = ControlPlane(config.account_id, config.region)
        self.controller = Controller(region, self.state, control_plane, timing)
        self.metadata = MetadataEndpoint(region.network, control_plane, self.state)
        self.sessions = ExecSessions(region.supervisor, region.background)
        region.serve_websocket = self.sessions.serve
        self.api = Api(self.state, self.controller, control_plane, self.sessions, config.api_port)

    # Component

    def install(self) -> None:
        """Serve ECS's API, and register its resource types."""
        self._region.services.replace("ecs", self)
        session_manager.install(self.sessions)
        cloudformation.install(self._region.resource_types, self.api, self.controller, self.state)

    async def start(self) -> None:
        """Start the controller: services of the restored state start new tasks."""
        await self.metadata.start()
        await self.controller.start()

    async def stop(self) -> None:
        """End the processes of all tasks, and keep the records."""
        await self.controller.stop()
        await self.metadata.stop()

    # The interface of a service in MiniStack

    async def handle_request(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        """Answer one API request."""
        return await self.api.handle_request(method, path, headers, body, query_params)

    def get_state(self) -> dict[str, Any]:
        """The state to save."""
        return self.state.saved()

    def load_persisted_state(self, data: dict[str, Any]) -> None:
        """Restore the result of `get_state`; called before `start`."""
        self.state.restore(data)

    def reset(self) -> None:
        """Delete all records. Running tasks are not stopped: this is for tests without a data plane."""
        self.state.clear()
