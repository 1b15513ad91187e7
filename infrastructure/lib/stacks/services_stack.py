"""All services, in one stack: a release updates them together, and a failed one takes them back together."""

from __future__ import annotations

from constructs import Construct

from lib.config.environments import Environment
from lib.constructs.ecs_service_construct import EcsService, Platform
from lib.stacks.environment_stack import EnvironmentStack


class ServicesStack(EnvironmentStack):
    """Attribute: `services`, by name."""

    def __init__(self, scope: Construct, *, environment: Environment, platform: Platform) -> None:
        super().__init__(scope, "services", environment=environment, description="The services")
        self.services = {
            service.name: EcsService(
                self,
                settings=service,
                environment=environment,
                platform=platform,
            )
            for service in environment.services
        }
