"""What can be said of a service, and of the migration of their database: see `services.py` for those that there are."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import MappingProxyType

from lib.config.errors import SettingError
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
    """A further essential container of the same image in the service's task, such as a queue's worker.

    `idle_command` does nothing until it is stopped: a one-off task (`./alva run`) starts every container of the task
    definition, and a companion must not take jobs there. An image without `sleep` names another one.
    """

    name: str
    command: tuple[str, ...]
    idle_command: tuple[str, ...] = ("sleep", "infinity")


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service: what it listens on, what is routed to it, what it is given, and how large it is.

    Without `port` it is a worker: nothing is routed to it, and nobody finds it by name.
    `paths` are the load balancer's path patterns (case-sensitive; `/api/*` does not match `/api`, hence both).
    `priority` orders the listener rules: lower is asked first. `host_label` is the label of its host where the
    environment has a domain; `{}` stands for the environment's name.
    `health_path` is what the load balancer asks, past the listener's rules: any path of the image. `health_codes` are
    the status codes that mean healthy, in the form of a target group's matcher ("200", "200,204", "200-399").
    `health_command` is run inside the container (`CMD` form, no shell), in addition; None for no such check.
    `deep_check_command` is run in a one-off task of the service, and asks what the service depends on:
    docs/reference/service-contract.md says what it is given and what it prints. None for no such check.
    `journey_command` is run by `./alva verify --deep` on the machine where it is typed, in the repository's root, and
    uses the product as a customer does: the same page says what it is given. None for no such check.
    `context` is the folder that the image is built from, below the repository's root; `dockerfile` is where its
    Dockerfile is, `apps/NAME/Dockerfile` of the context by default.
    `has_pages`: browsers run its pages, which may call the others with the visitor's cookies (CORS).
    `has_queue`: it logs the depth of its queue in the field `queue_depth`, from which CloudWatch makes a metric.
    `database_connections` is how many one task opens at most, with its companions: preflight adds them up.
    `stack` is the number of the services stack that it lives in: the first ones share `services`, and more than
    SERVICES_PER_STACK need `services-2` and so on (docs/decisions/services-in-numbered-stacks.md).
    `cpu_units` and `memory_mib` are a Fargate size. Raises SettingError when any of this cannot be deployed.
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
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,18}[a-z0-9]", self.name):
            raise SettingError(f"{where}.name", self.name, "use 2 to 20 lower-case letters, digits and hyphens")
        check_size(where, self.cpu_units, self.memory_mib)
        for path in (self.context, self.dockerfile):
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise SettingError(f"{where}.context", path, "a path inside the repository")
        if not self.dockerfile:
            object.__setattr__(self, "dockerfile", str(PurePosixPath(self.context, "apps", self.name, "Dockerfile")))
        if self.stack < 1:
            raise SettingError(f"{where}.stack", self.stack, "1 or more")
        if self.port is None:
            self._check_worker(where)
        else:
            self._check_routes(where, self.port)
        for variable, template in self.environment.items():
            for _, placeholder, _, _ in string.Formatter().parse(template):
                if placeholder is not None and placeholder.split("[")[0] not in PLACEHOLDERS:
                    raise SettingError(
                        f"{where}.environment.{variable}",
                        template,
                        f"one of {', '.join(sorted(PLACEHOLDERS))} in braces",
                    )
        known = {secret.name for secret in SECRETS}
        for variable, given in self.secrets.items():
            if isinstance(given, SecretKey) and given.secret not in known:
                raise SettingError(f"{where}.secrets.{variable}", given.secret, f"one of {', '.join(sorted(known))}")
            if isinstance(given, DatabaseUrl | RedisUrl) and not re.fullmatch(r"[\w.~%/&=+-]*", given.query):
                raise SettingError(
                    f"{where}.secrets.{variable}", given.query, "a query like sslmode=verify-full, without ?"
                )
        if both := self.environment.keys() & self.secrets.keys():
            raise SettingError(
                f"{where}.secrets", sorted(both), "a variable is either configuration or a secret, not both"
            )
        if self.uses_database != (self.database_connections > 0):
            expected = (
                "at least 1: it is given DATABASE_URL" if self.uses_database else "0: it is given no DATABASE_URL"
            )
            raise SettingError(f"{where}.database_connections", self.database_connections, expected)

    def _check_worker(self, where: str) -> None:
        for name in ("paths", "priority", "path_prefix", "host_label", "allowlisted", "has_pages"):
            if value := getattr(self, name):
                raise SettingError(f"{where}.{name}", value, "none: without a port, nothing is routed to the service")

    def _check_routes(self, where: str, port: int) -> None:
        if not 1024 <= port <= 65535:
            raise SettingError(f"{where}.port", port, "an unprivileged port (1024 to 65535): tasks do not run as root")
        if not 1 <= self.priority <= 49_000:
            raise SettingError(f"{where}.priority", self.priority, "1 to 49000")
        if not self.paths:
            raise SettingError(
                f"{where}.paths", self.paths, "at least one pattern, or nothing is routed to the service"
            )
        if not re.fullmatch(r"[a-z0-9{}-]{1,40}", self.host_label):
            raise SettingError(f"{where}.host_label", self.host_label, "the label of its host, such as api-{}")
        # An ALB rule has at most 5 condition values: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html
        if len(self.paths) > 5:
            raise SettingError(f"{where}.paths", self.paths, "a listener rule takes at most 5 values")
        for pattern in self.paths:
            if not pattern.startswith("/") or len(pattern) > 128:
                raise SettingError(f"{where}.paths", pattern, "starts with / and has at most 128 characters")
        if not self.health_path.startswith("/"):
            raise SettingError(f"{where}.health_path", self.health_path, "starts with /")
        if not _are_success_codes(self.health_codes):
            raise SettingError(
                f"{where}.health_codes", self.health_codes, "codes from 200 to 399: 200, or 200,204, or 200-399"
            )
        if self.path_prefix and not re.fullmatch(r"(/[a-z0-9-]+)+", self.path_prefix):
            raise SettingError(f"{where}.path_prefix", self.path_prefix, "empty, or like /api")

    @property
    def service_name(self) -> str:
        """The ECS service, its task definition's family and its repository."""
        return f"alva-{self.name}"

    @property
    def construct_id(self) -> str:
        """What its constructs, and the logical ids in the templates, begin with: `MyBlog` for `my-blog`."""
        return "".join(part.capitalize() for part in self.name.split("-"))

    @property
    def image_parameter(self) -> str:
        """The template parameter that takes the image's digest."""
        return f"{self.construct_id}ImageDigest"

    @property
    def uses_database(self) -> bool:
        is_given_whole = any(isinstance(each, DatabaseUrl) for each in self.secrets.values())
        return is_given_whole or "{database_url}" in self.environment.values()

    @property
    def secret_keys(self) -> Mapping[str, SecretKey]:
        """Variable -> where its value is in Secrets Manager."""
        return {
            variable: given
            if isinstance(given, SecretKey)
            else SecretKey(secret=URL_SECRETS[type(given)].name, key=f"{self.name}_{variable}")
            for variable, given in self.secrets.items()
        }

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The secrets that its execution role may read, in order, each once."""
        return tuple(dict.fromkeys(secret_key.secret for secret_key in self.secret_keys.values()))

    @property
    def depends_on_password(self) -> bool:
        """Whether it holds the data tier's password, by itself or in a URL, and restarts when that is rotated."""
        names = {DATABASE_SECRET, *(secret.name for secret in URL_SECRETS.values())}
        return not names.isdisjoint(self.secret_names)


def check_size(where: str, cpu_units: int, memory_mib: int) -> None:
    """Raise SettingError unless Fargate has a task of this size."""
    if cpu_units not in FARGATE_MEMORY_MIB:
        raise SettingError(f"{where}.cpu_units", cpu_units, f"one of {', '.join(map(str, FARGATE_MEMORY_MIB))}")
    if memory_mib not in FARGATE_MEMORY_MIB[cpu_units]:
        allowed = ", ".join(map(str, sorted(FARGATE_MEMORY_MIB[cpu_units])))
        raise SettingError(f"{where}.memory_mib", memory_mib, f"with {cpu_units} CPU units one of {allowed}")


def _are_success_codes(codes: str) -> bool:
    """Whether a matcher takes success (2xx) and redirection (3xx) alone.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_Matcher.html
    """
    bounds = [each.split("-") for each in codes.split(",")]
    return all(
        len(each) in (1, 2) and all(re.fullmatch(r"[23]\d\d", code) for code in each) and each == sorted(each)
        for each in bounds
    )


SERVICES_PER_STACK = 25
"""How many services a stack takes: each makes up to 18 of the 500 resources that CloudFormation allows.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
"""


def secrets_of(services: Sequence[Service]) -> tuple[Secret, ...]:
    """The environment's secrets: SECRETS, and those with whole URLs where a service asks for one."""
    read = {name for service in services for name in service.secret_names}
    return (*SECRETS, *(secret for secret in URL_SECRETS.values() if secret.name in read))


def queries_of(services: Sequence[Service], kind: type[DatabaseUrl | RedisUrl]) -> dict[str, str]:
    """Key in the secret of this kind of URL -> the query of the URL there."""
    return {
        service.secret_keys[variable].key or "": given.query
        for service in services
        for variable, given in service.secrets.items()
        if isinstance(given, kind)
    }


def check_services(services: Sequence[Service]) -> None:
    """Raise SettingError where two services claim the same thing, or too many share a stack."""
    for number in sorted({service.stack for service in services}):
        members = [service for service in services if service.stack == number]
        if len(members) > SERVICES_PER_STACK:
            raise SettingError(
                f"services.{members[-1].name}.stack", number,
                f"{number + 1}: a stack takes {SERVICES_PER_STACK} services, and {len(members)} are in this one",
            )  # fmt: skip
    for attribute in ("name", "port", "priority", "host_label"):
        taken: dict[object, str] = {}
        for service in services:
            value = getattr(service, attribute)
            if not value:
                continue  # a worker has none of it
            if value in taken:
                raise SettingError(
                    f"services.{service.name}.{attribute}", value, f"not what {taken[value]} has already"
                )
            taken[value] = service.name


@dataclass(frozen=True, kw_only=True)
class Migration:
    """The one-off task that migrates the database, with the image of `service`, before any service changes.

    `folder` is where that image has the migrations, which a release judges before it runs them: Alembic's `versions`,
    Drizzle's folder (with `meta/_journal.json`), Prisma's `migrations`, or `*.sql` that run in the order of their
    names. None: they are not judged.
    It is given the database in the form that `service` has it: the same variables, of the same secrets.
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
