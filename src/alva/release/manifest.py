"""`alva.json`: what synthesis writes about an environment beside its templates. The engine reads it and does not
import `infrastructure/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from alva.errors import AlvaError, UsageError

PHASES = ("registry", "data", "services", "after")
"""The order of a release; stacks of one phase run in parallel as far as `depends_on` allows."""

FILE_NAME = "alva.json"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One CloudFormation stack and its template file."""

    name: str
    short_name: str
    """Without the environment's prefix: `network`."""
    template_file: Path
    depends_on: tuple[str, ...]
    phase: str
    is_optional: bool = False
    """Whether a release reports the stack's failure and continues: the product works without it."""

    def template(self) -> dict[str, Any]:
        """Return the parsed template."""
        loaded = json.loads(self.template_file.read_text())
        assert isinstance(loaded, dict)  # noqa: S101
        return loaded


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service."""

    name: str
    """Short: `api`."""
    service: str
    """The ECS service: `alva-api`."""
    repository: str
    dockerfile: str
    """Relative to the repository's root."""
    port: int | None
    """None for a worker, which gets no requests."""
    paths: tuple[str, ...]
    host: str | None
    """The service's own host name, in an environment with a domain."""
    health_path: str
    log_group: str
    image_parameter: str
    has_pages: bool = False
    """Whether it has pages for browsers: then its home page must exist."""
    idle_commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Companion container -> its command in a one-off task, which replaces its own."""
    deep_check_command: tuple[str, ...] | None = None
    """The command of a one-off task that checks the service's dependencies."""
    journey_command: tuple[str, ...] | None = None
    """The command, run in the repository's root, that uses the product as a customer does."""
    context: str = "."
    """The build context, relative to the repository's root."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    """The one-off task that migrates the database's schema."""

    family: str
    container: str
    service: str
    """The service whose image it runs."""
    image_parameter: str
    stack: str
    folder: str | None = None
    """The folder of the migrations in the image: Alembic's, Drizzle's, Prisma's, or SQL files."""


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A secret of the environment; `kind` tells how it gets its value."""

    name: str
    short_name: str
    """Without the environment's prefix: `database`."""
    kind: str
    used_by: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The names of the SSM parameters in which the engine keeps its state."""

    lock: str
    """The environment's lock."""
    releases: str
    """The ledger."""
    causes: str
    """Why releases failed."""
    secrets: str
    """Who set which secret."""
    asleep: str
    """The desired counts before `./alva sleep`."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One environment."""

    environment: str
    prefix: str
    region: str
    cluster: str
    namespace: str
    load_balancer: str
    """The load balancer's name."""
    dashboard: str
    """The CloudWatch dashboard's name."""
    alarm_prefix: str
    """What the names of the environment's alarms begin with."""
    alarms: Mapping[str, str]
    """An alarm's name -> the part that it watches: a service's name, `alb`, `database` or `cache`."""
    parameters: Parameters
    """The SSM parameters of the engine."""
    tags: Mapping[str, str]
    """The tags of every stack, which CloudFormation propagates to its resources."""
    stacks: tuple[Stack, ...]
    services: tuple[Service, ...]
    migration: Migration
    secrets: tuple[Secret, ...]
    architecture: str = "X86_64"
    """The CPU architecture of tasks and images: X86_64 or ARM64."""
    repository: str | None = None
    """The GitHub repository that can release, OWNER/NAME; None if it is not set."""
    branch: str = ""
    """The branch whose workflows can release."""
    unset_settings: Mapping[str, str] = field(default_factory=dict)
    """Missing settings of a release to AWS -> the expected value."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read `folder`/alva.json; raises AlvaError if it is missing or invalid."""
        file = folder / FILE_NAME
        try:
            return cls.from_values(json.loads(file.read_text()), folder)
        except FileNotFoundError as error:
            raise AlvaError(f"cannot read the templates: {file} does not exist", next_step="./alva synth") from error
        except (ValueError, KeyError, TypeError) as error:
            raise AlvaError(
                f"cannot read {file}", evidence=[f"{type(error).__name__}: {error}"], next_step="./alva synth --force"
            ) from error

    @classmethod
    def from_values(cls, values: Mapping[str, Any], folder: Path) -> Self:
        """Create a manifest from the file's values; raises KeyError, TypeError or ValueError if they are invalid."""
        stacks = tuple(
            Stack(
                name=item["name"],
                short_name=item["short_name"],
                template_file=folder / item["template"],
                depends_on=tuple(item["depends_on"]),
                phase=item["phase"],
                is_optional=bool(item.get("optional", False)),
            )
            for item in values["stacks"]
        )
        names = {stack.name for stack in stacks}
        for stack in stacks:
            if stack.phase not in PHASES:
                raise ValueError(f"stack {stack.name} has the unknown phase {stack.phase!r}")
            if unknown := set(stack.depends_on) - names:
                raise ValueError(f"stack {stack.name} depends on unknown stacks: {', '.join(sorted(unknown))}")
        migration = values["migration"]
        return cls(
            environment=values["environment"],
            prefix=values["prefix"],
            region=values["region"],
            cluster=values["cluster"],
            namespace=values["namespace"],
            load_balancer=values["load_balancer"],
            dashboard=values["dashboard"],
            alarm_prefix=values["alarm_prefix"],
            alarms=dict(values["alarms"]),
            parameters=Parameters(**values["parameters"]),
            tags=dict(values.get("tags", {})),
            stacks=stacks,
            services=tuple(
                Service(
                    name=item["name"],
                    service=item["service"],
                    repository=item["repository"],
                    dockerfile=item["dockerfile"],
                    port=None if item["port"] is None else int(item["port"]),
                    paths=tuple(item["paths"]),
                    host=item.get("host"),
                    health_path=item["health_path"],
                    log_group=item["log_group"],
                    image_parameter=item["image_parameter"],
                    has_pages=bool(item.get("has_pages")),
                    deep_check_command=tuple(item.get("deep_check_command") or ()) or None,
                    journey_command=tuple(item.get("journey_command") or ()) or None,
                    context=item.get("context", "."),
                    idle_commands={
                        name: tuple(companion["idle_command"]) for name, companion in item.get("companions", {}).items()
                    },
                )
                for item in values["services"]
            ),
            migration=Migration(
                family=migration["family"],
                container=migration["container"],
                service=migration["service"],
                image_parameter=migration["image_parameter"],
                stack=migration["stack"],
                folder=migration.get("folder"),
            ),
            secrets=tuple(
                Secret(
                    name=item["name"],
                    short_name=item["short_name"],
                    kind=item["kind"],
                    used_by=tuple(item["used_by"]),
                )
                for item in values["secrets"]
            ),
            architecture=values.get("architecture", "X86_64"),
            repository=values.get("pipeline", {}).get("repository"),
            branch=values.get("pipeline", {}).get("branch", ""),
            unset_settings=dict(values.get("unset_settings", {})),
        )

    def stacks_of(self, phase: str) -> tuple[Stack, ...]:
        """Return the stacks of one phase, in the file's order."""
        return tuple(stack for stack in self.stacks if stack.phase == phase)

    def stack(self, short_name: str) -> Stack:
        """Return the stack with this short name; raises AlvaError if there is none."""
        for stack in self.stacks:
            if stack.short_name == short_name:
                return stack
        raise AlvaError(f"cannot find the stack {short_name!r} in the templates", next_step="./alva synth")

    @property
    def deep_checked(self) -> Service | None:
        """The first service with a deep check."""
        return next((service for service in self.services if service.deep_check_command), None)

    @property
    def journey_command(self) -> tuple[str, ...] | None:
        """The first service's journey command."""
        return next((service.journey_command for service in self.services if service.journey_command), None)

    @property
    def generated_secret(self) -> Secret | None:
        """The secret whose value a template generates: the password of database and cache."""
        return next((secret for secret in self.secrets if secret.kind == "generated"), None)

    def service(self, name: str) -> Service:
        """Return the service `name` (`api` or `alva-api`); raises UsageError with the existing names."""
        for service in self.services:
            if name in (service.name, service.service):
                return service
        raise UsageError(
            f"cannot find a service {name!r}", evidence=[f"there are {', '.join(s.name for s in self.services)}"]
        )

    def image_parameters(self, digests: Mapping[str, str]) -> dict[str, str]:
        """Return image parameter -> digest, from service name -> digest; the migration uses its service's image."""
        parameters = {
            service.image_parameter: digests[service.name] for service in self.services if service.name in digests
        }
        if self.migration.service in digests:
            parameters[self.migration.image_parameter] = digests[self.migration.service]
        return parameters
