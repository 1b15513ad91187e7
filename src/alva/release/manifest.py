"""`alva.json`, what synthesis says about an environment beside its templates: the seam to `infrastructure/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from alva.errors import AlvaError, UsageError

PHASES = ("registry", "data", "services", "after")
"""The order of a release; stacks of one phase run side by side as far as `depends_on` allows."""

FILE_NAME = "alva.json"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One CloudFormation stack and its template file."""

    name: str
    template_file: Path
    depends_on: tuple[str, ...]
    phase: str
    is_optional: bool = False
    """Whether a release reports its failure and goes on: the product does without what is in it."""

    def template(self) -> dict[str, Any]:
        """The template as values."""
        loaded = json.loads(self.template_file.read_text())
        assert isinstance(loaded, dict)  # noqa: S101
        return loaded


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service as a release sees it."""

    name: str
    """Short: `api`."""
    service: str
    """The ECS service: `alva-api`."""
    repository: str
    dockerfile: str
    """Relative to the repository's root."""
    port: int | None
    """None for a worker: nothing is routed to it."""
    paths: tuple[str, ...]
    host: str | None
    """Where the environment has a domain: the host name whose every path is this service's."""
    health_path: str
    log_group: str
    image_parameter: str
    has_pages: bool = False
    """Whether people open it in a browser: then its home page has to be there."""
    idle_commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Companion container -> what it runs in a one-off task, instead of its own command."""
    deep_check_command: tuple[str, ...] | None = None
    """What a one-off task runs to ask what the service depends on."""
    journey_command: tuple[str, ...] | None = None
    """What is run in the repository's root to use the product as a customer does."""
    context: str = "."
    """The folder that the image is built from, relative to the repository's root."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    """The one-off task that brings the database's schema to what the new image expects."""

    family: str
    container: str
    service: str
    """The service whose image it runs."""
    image_parameter: str
    stack: str
    folder: str | None = None
    """Where the image has the migrations that are judged: Alembic's, Drizzle's, Prisma's, or SQL files."""


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A secret of the environment; `kind` says who can make its value."""

    name: str
    kind: str
    used_by: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One environment: what there is to release, and where."""

    environment: str
    prefix: str
    region: str
    cluster: str
    namespace: str
    tags: Mapping[str, str]
    """Given to every stack; CloudFormation puts them on the resources."""
    stacks: tuple[Stack, ...]
    services: tuple[Service, ...]
    migration: Migration
    secrets: tuple[Secret, ...]
    architecture: str = "X86_64"
    """The CPU architecture of tasks and images, as a task definition names it: X86_64 or ARM64."""
    repository: str | None = None
    """The GitHub repository that may release, OWNER/NAME; None where nobody has set it."""
    branch: str = ""
    """The branch whose workflows may release."""
    unset_settings: Mapping[str, str] = field(default_factory=dict)
    """Settings that a release to AWS needs and that nobody has set -> what to set each to."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read `folder`/alva.json; raises AlvaError when it is missing or not what this release expects."""
        file = folder / FILE_NAME
        try:
            return cls.from_values(json.loads(file.read_text()), folder)
        except FileNotFoundError as error:
            raise AlvaError(
                f"cannot read the templates: {file} does not exist", next_step="./alva synth writes them"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise AlvaError(
                f"cannot read {file}", evidence=[f"{type(error).__name__}: {error}"], next_step="./alva synth --force"
            ) from error

    @classmethod
    def from_values(cls, values: Mapping[str, Any], folder: Path) -> Self:
        """Make one of the file's values; raises KeyError, TypeError or ValueError when they do not fit."""
        stacks = tuple(
            Stack(
                name=item["name"],
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
                Secret(name=item["name"], kind=item["kind"], used_by=tuple(item["used_by"]))
                for item in values["secrets"]
            ),
            architecture=values.get("architecture", "X86_64"),
            repository=values.get("pipeline", {}).get("repository"),
            branch=values.get("pipeline", {}).get("branch", ""),
            unset_settings=dict(values.get("unset_settings", {})),
        )

    def stacks_of(self, phase: str) -> tuple[Stack, ...]:
        """The stacks of one phase, in the file's order."""
        return tuple(stack for stack in self.stacks if stack.phase == phase)

    def stack(self, short_name: str) -> Stack:
        """The stack called `{prefix}-{short_name}`; raises AlvaError when there is none."""
        for stack in self.stacks:
            if stack.name == f"{self.prefix}-{short_name}":
                return stack
        raise AlvaError(f"cannot find a stack {self.prefix}-{short_name} in the templates", next_step="./alva synth")

    @property
    def deep_checked(self) -> Service | None:
        """The service whose entry names a deep check; the first of several."""
        return next((service for service in self.services if service.deep_check_command), None)

    @property
    def journey_command(self) -> tuple[str, ...] | None:
        """The journey that a service's entry names; the first of several."""
        return next((service.journey_command for service in self.services if service.journey_command), None)

    def service(self, name: str) -> Service:
        """The service called `name` (`api`, or `alva-api`); raises UsageError naming those that exist."""
        for service in self.services:
            if name in (service.name, service.service):
                return service
        raise UsageError(
            f"cannot find a service {name!r}", evidence=[f"there are {', '.join(s.name for s in self.services)}"]
        )

    def image_parameters(self, digests: Mapping[str, str]) -> dict[str, str]:
        """Image parameter -> digest, from service name -> digest; the migration runs its service's image."""
        parameters = {
            service.image_parameter: digests[service.name] for service in self.services if service.name in digests
        }
        if self.migration.service in digests:
            parameters[self.migration.image_parameter] = digests[self.migration.service]
        return parameters
