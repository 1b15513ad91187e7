"""A stack of services. A release updates all services stacks together, and a failed release rolls all of them back."""

from __future__ import annotations

from constructs import Construct

from lib.config.environments import Environment
from lib.constructs.ecs_service_construct import EcsService, Platform
from lib.stacks.environment_stack import EnvironmentStack


class ServicesStack(EnvironmentStack):
    """The services whose `stack` is `number`. Attribute: `services`, by name."""

    def __init__(self, scope: Construct, *, environment: Environment, platform: Platform, number: int) -> None:
        part = "services" if number == 1 else f"services-{number}"
        super().__init__(scope, part, environment=environment, description="The services")
        self.services = {
            service.name: EcsService(
                self,
                settings=service,
                environment=environment,
                platform=platform,
            )
            for service in environment.services
            if service.stack == number
        }
