"""The settings of a service and of the database migration. `services.py` has their values."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import MappingProxyType

from lib.config.errors import require
from lib.config.secrets import (
    DATABASE_SECRET,
    SECRETS,
    URL_SECRETS,
    DatabaseUrl,
    RedisUrl,
    Secret,
    SecretKey,
)

PLACEHOLDERS = frozenset(
    {"database_url", "redis_url", "public_url", "public_base", "internal_url", "origins", "cookie_domain", "mail_from"}
)

# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html#fargate-tasks-size
FARGATE_MEMORY_MIB: Mapping[int, frozenset[int]] = MappingProxyType(
    {
        256: frozenset({512, 1024, 2048}),
        512: frozenset(range(1024, 4096 + 1, 1024)),
        1024: frozenset(range(2048, 8192 + 1, 1024)),
        2048: frozenset(range(4096, 16384 + 1, 1024)),
        4096: frozenset(range(8192, 30720 + 1, 1024)),
    }
)


@dataclass(frozen=True, kw_only=True)
class Companion:
    """Another essential container with the same image in the service's task, such as a queue's worker.

    A one-off task (`./alva run`) starts every container of the task definition, and a companion must not take jobs
    there. It runs `idle_command` instead, which waits until it is stopped. An image without `sleep` needs another
    command.
    """

    name: str
    command: tuple[str, ...]
    idle_command: tuple[str, ...] = ("sleep", "infinity")


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service.

    - `port`: the container's port. A service without a port is a worker: the load balancer sends it no requests, and it
      has no DNS name.
    - `paths`: the load balancer's path patterns. They are case-sensitive, and `/api/*` does not match `/api`.
    - `priority`: the order of the listener rules. The lowest number is evaluated first.
    - `host_label`: the label of its host name if the environment has a domain. `{}` stands for the environment's name.
    - `health_path`: the path of the load balancer's health check. The listener's rules do not apply to it.
    - `health_codes`: the status codes that mean healthy, in the form of a target group's matcher ("200", "200,204",
      "200-399").
    - `health_command`: the container health check (`CMD` form, no shell). None: no such check.
    - `deep_check_command`: checks the service's dependencies in a one-off task. docs/reference/service-contract.md
      has its arguments and its output. None: no such check.
    - `journey_command`: uses the product as a customer does. `./alva verify --deep` runs it on the local machine,
      in the repository's root; docs/reference/service-contract.md has its environment variables. None: no such check.
    - `context`: the build context, a folder of the repository.
    - `dockerfile`: the Dockerfile in the context. The default is `apps/NAME/Dockerfile`.
    - `has_pages`: browsers show its pages, which may call the other services with the visitor's cookies (CORS).
    - `has_queue`: it logs the depth of its queue in the field `queue_depth`. CloudWatch makes a metric of it.
    - `database_connections`: how many connections one task opens at most, with its companions. Preflight adds them up.
    - `stack`: the number of its services stack. A stack takes SERVICES_PER_STACK services
      (docs/decisions/services-in-numbered-stacks.md).
    - `cpu_units`, `memory_mib`: a Fargate task size.

    Raises SettingError for values that cannot be deployed.
    """

    name: str
    port: int | None = None
    paths: tuple[str, ...] = ()
    priority: int = 0
    path_prefix: str = ""
    host_label: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretKey | DatabaseUrl | RedisUrl] = field(default_factory=dict)
    companions: tuple[Companion, ...] = ()
    health_path: str = "/health"
    health_codes: str = "200"
    health_command: tuple[str, ...] | None = None
    deep_check_command: tuple[str, ...] | None = None
    journey_command: tuple[str, ...] | None = None
    context: str = "."
    dockerfile: str = ""
    database_connections: int = 0
    cpu_units: int = 512
    memory_mib: int = 1024
    read_only_root: bool = True
    allowlisted: bool = False
    has_pages: bool = False
    has_queue: bool = False
    stack: int = 1

    def __post_init__(self) -> None:
        where = f"services.{self.name}"
        is_name = bool(re.fullmatch(r"[a-z][a-z0-9-]{0,18}[a-z0-9]", self.name))
        require(f"{where}.name", is_name, self.name, "use 2 to 20 lower-case letters, digits and hyphens")
        check_size(where, self.cpu_units, self.memory_mib)
        for path in (self.context, self.dockerfile):
            is_inside = not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts
            require(f"{where}.context", is_inside, path, "a path inside the repository")
        if not self.dockerfile:
            object.__setattr__(self, "dockerfile", str(PurePosixPath(self.context, "apps", self.name, "Dockerfile")))
        require(f"{where}.stack", self.stack >= 1, self.stack, "1 or more")
        if self.port is None:
            self._check_worker(where)
        else:
            self._check_routes(where, self.port)
        for variable, template in self.environment.items():
            for _, placeholder, _, _ in string.Formatter().parse(template):
                is_known = placeholder is None or placeholder.split("[")[0] in PLACEHOLDERS
                expected = f"one of {', '.join(sorted(PLACEHOLDERS))} in braces"
                require(f"{where}.environment.{variable}", is_known, template, expected)
        known = {secret.name for secret in SECRETS}
        for variable, given in self.secrets.items():
            setting = f"{where}.secrets.{variable}"
            if isinstance(given, SecretKey):
                require(setting, given.secret in known, given.secret, f"one of {', '.join(sorted(known))}")
            else:
                is_query = bool(re.fullmatch(r"[\w.~%/&=+-]*", given.query))
                require(setting, is_query, given.query, "a query like sslmode=verify-full, without ?")
        both = sorted(self.environment.keys() & self.secrets.keys())
        require(f"{where}.secrets", not both, both, "a variable is either configuration or a secret, not both")
        connections = self.database_connections
        expected = "at least 1: it is given DATABASE_URL" if self.uses_database else "0: it is given no DATABASE_URL"
        require(f"{where}.database_connections", self.uses_database == (connections > 0), connections, expected)

    def _check_worker(self, where: str) -> None:
        for name in ("paths", "priority", "path_prefix", "host_label", "allowlisted", "has_pages"):
            value = getattr(self, name)
            require(f"{where}.{name}", not value, value, "none: without a port, nothing is routed to the service")

    def _check_routes(self, where: str, port: int) -> None:
        unprivileged = "an unprivileged port (1024 to 65535): tasks do not run as root"
        require(f"{where}.port", 1024 <= port <= 65535, port, unprivileged)
        require(f"{where}.priority", 1 <= self.priority <= 49_000, self.priority, "1 to 49000")
        expected = "at least one pattern: the load balancer routes by path"
        require(f"{where}.paths", len(self.paths) > 0, self.paths, expected)
        is_label = bool(re.fullmatch(r"[a-z0-9{}-]{1,40}", self.host_label))
        require(f"{where}.host_label", is_label, self.host_label, "the label of its host, such as api-{}")
        # An ALB rule has at most 5 condition values: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html
        require(f"{where}.paths", len(self.paths) <= 5, self.paths, "a listener rule takes at most 5 values")
        for pattern in self.paths:
            is_pattern = pattern.startswith("/") and len(pattern) <= 128
            require(f"{where}.paths", is_pattern, pattern, "starts with / and has at most 128 characters")
        require(f"{where}.health_path", self.health_path.startswith("/"), self.health_path, "starts with /")
        expected = "codes from 200 to 399: 200, or 200,204, or 200-399"
        require(f"{where}.health_codes", _are_success_codes(self.health_codes), self.health_codes, expected)
        is_prefix = not self.path_prefix or bool(re.fullmatch(r"(/[a-z0-9-]+)+", self.path_prefix))
        require(f"{where}.path_prefix", is_prefix, self.path_prefix, "empty, or like /api")

    @property
    def service_name(self) -> str:
        """The ECS service, its task definition's family and its repository."""
        return f"alva-{self.name}"

    @property
    def construct_id(self) -> str:
        """The prefix of its construct ids and logical ids: `MyBlog` for `my-blog`."""
        return "".join(part.capitalize() for part in self.name.split("-"))

    @property
    def image_parameter(self) -> str:
        """The template parameter for the image's digest."""
        return f"{self.construct_id}ImageDigest"

    @property
    def uses_database(self) -> bool:
        is_given_whole = any(isinstance(each, DatabaseUrl) for each in self.secrets.values())
        return is_given_whole or "{database_url}" in self.environment.values()

    @property
    def secret_keys(self) -> Mapping[str, SecretKey]:
        """Environment variable -> the secret of its value in Secrets Manager."""
        return {
            variable: given
            if isinstance(given, SecretKey)
            else SecretKey(secret=URL_SECRETS[type(given)].name, key=f"{self.name}_{variable}")
            for variable, given in self.secrets.items()
        }

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The secrets that its execution role may read, sorted and without duplicates."""
        return tuple(dict.fromkeys(secret_key.secret for secret_key in self.secret_keys.values()))

    @property
    def depends_on_password(self) -> bool:
        """Whether it gets the password of database and cache, and must restart when the password is rotated."""
        names = {DATABASE_SECRET, *(secret.name for secret in URL_SECRETS.values())}
        return not names.isdisjoint(self.secret_names)


def check_size(where: str, cpu_units: int, memory_mib: int) -> None:
    """Raise SettingError unless Fargate supports this task size."""
    expected = f"one of {', '.join(map(str, FARGATE_MEMORY_MIB))}"
    require(f"{where}.cpu_units", cpu_units in FARGATE_MEMORY_MIB, cpu_units, expected)
    allowed = FARGATE_MEMORY_MIB[cpu_units]
    expected = f"with {cpu_units} CPU units one of {', '.join(map(str, sorted(allowed)))}"
    require(f"{where}.memory_mib", memory_mib in allowed, memory_mib, expected)


def _are_success_codes(codes: str) -> bool:
    """Return whether a matcher has only codes of success (2xx) and redirection (3xx).

    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_Matcher.html
    """
    bounds = [each.split("-") for each in codes.split(",")]
    return all(
        len(each) in (1, 2) and all(re.fullmatch(r"[23]\d\d", code) for code in each) and each == sorted(each)
        for each in bounds
    )


SERVICES_PER_STACK = 25
"""The number of services in a stack. Each has up to 18 of the 500 resources that CloudFormation allows.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
"""


def secrets_of(services: Sequence[Service]) -> tuple[Secret, ...]:
    """Return the environment's secrets: SECRETS, and those with URLs if a service refers to one."""
    read = {name for service in services for name in service.secret_names}
    return (*SECRETS, *(secret for secret in URL_SECRETS.values() if secret.name in read))


def queries_of(services: Sequence[Service], kind: type[DatabaseUrl | RedisUrl]) -> dict[str, str]:
    """Return, for each key in the secret of this type of URL, the query of its URL."""
    return {
        service.secret_keys[variable].key or "": given.query
        for service in services
        for variable, given in service.secrets.items()
        if isinstance(given, kind)
    }


def check_services(services: Sequence[Service]) -> None:
    """Raise SettingError if two services have the same name, port or rule, or if too many share a stack."""
    for number in sorted({service.stack for service in services}):
        members = [service for service in services if service.stack == number]
        expected = f"{number + 1}: a stack takes {SERVICES_PER_STACK} services, and {len(members)} are in this one"
        require(f"services.{members[-1].name}.stack", len(members) <= SERVICES_PER_STACK, number, expected)
    for attribute in ("name", "port", "priority", "host_label"):
        taken: dict[object, str] = {}
        for service in services:
            value = getattr(service, attribute)
            if not value:
                continue  # A worker has no such value.
            setting = f"services.{service.name}.{attribute}"
            require(setting, value not in taken, value, f"not what {taken.get(value)} has already")
            taken[value] = service.name


@dataclass(frozen=True, kw_only=True)
class Migration:
    """The one-off task that migrates the database with the image of `service`, before any service is updated.

    `folder` contains the migrations in that image: Alembic's `versions`, Drizzle's folder (with `meta/_journal.json`),
    Prisma's `migrations`, or `*.sql` that run in the order of their names. A release checks them before it runs them.
    None: no check.
    The task gets the variables and secrets that `service` has for the database.
    """

    service: str
    command: tuple[str, ...]
    family: str = "alva-migrations"
    container: str = "migrations"
    image_parameter: str = "MigrationsImageDigest"
    folder: str | None = None
    database_connections: int = 2
    cpu_units: int = 256
    memory_mib: int = 512
