"""The services that an environment runs: one entry each, from which everything else about them is made.

A fifth service is one more `Service` here and a folder under `apps/`. A value in `environment` may name what only the
deployed environment knows, in the form of `str.format`:

    {database_url} {redis_url}          without their passwords, see docs/decisions/credentials-beside-urls.md
    {public_url[api]} {internal_url[api]}   where a browser, and where a task, reaches a service, without its prefix
    {public_base[api]}                  for a browser, with the prefix; relative where all services share one host
    {origins} {cookie_domain} {mail_from}
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from lib.config.errors import SettingError

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
class Secret:
    """One of the environment's secrets, `<prefix>-<name>` in Secrets Manager.

    `kind` says where its value comes from: `generated` by the template; everything else is set by the release tool
    and holds `alva:unset` until then.
    """

    name: str
    kind: str
    description: str


DATABASE_SECRET = "database"

SECRETS: tuple[Secret, ...] = (
    Secret(
        name=DATABASE_SECRET, kind="generated", description="Credentials of the database, and the cache's AUTH token"
    ),
    Secret(name="jwt-private-key", kind="rsa-private-key", description="Signs access tokens (PEM, RSA)"),
    Secret(name="jwt-public-key", kind="rsa-public-key", description="Verifies access tokens (PEM)"),
    Secret(name="jwt-secret", kind="random", description="Signs the links in mails"),
    Secret(name="cookie-secret", kind="random", description="Signs cookies"),
    Secret(name="openai-api-key", kind="api-key", description="OpenAI"),
    Secret(name="resend-api-key", kind="api-key", description="Resend"),
)


@dataclass(frozen=True, kw_only=True)
class SecretKey:
    """A secret as a task reads it: whole, or one key of a JSON value."""

    secret: str
    key: str | None = None


# One generated credential serves the data tier: docs/decisions/one-data-tier-credential.md
DATA_TIER_PASSWORD = SecretKey(secret=DATABASE_SECRET, key="password")


@dataclass(frozen=True, kw_only=True)
class Companion:
    """A further essential container of the same image in the service's task, such as a queue's worker."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service: what it listens on, what is routed to it, what it is given, and how large it is.

    `paths` are the load balancer's path patterns (case-sensitive; `/api/*` does not match `/api`, hence both).
    `priority` orders the listener rules: lower is asked first. `host_label` is the label of its host where the
    environment has a domain; `{}` stands for the environment's name.
    `health_command` is run inside the container (`CMD` form, no shell). An image without `kit` overrides it.
    `has_pages`: browsers run its pages, which may call the others with the visitor's cookies (CORS).
    `database_connections` is how many one task opens at most, with its companions: preflight adds them up.
    `cpu_units` and `memory_mib` are a Fargate size. Raises SettingError when any of this cannot be deployed.
    """

    name: str
    port: int
    paths: tuple[str, ...]
    priority: int
    path_prefix: str
    host_label: str
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretKey] = field(default_factory=dict)
    companions: tuple[Companion, ...] = ()
    health_path: str = "/health"
    health_command: tuple[str, ...] = ("python", "-m", "kit.healthcheck")
    database_connections: int = 0
    cpu_units: int = 512
    memory_mib: int = 1024
    read_only_root: bool = True
    allowlisted: bool = False
    has_pages: bool = False

    def __post_init__(self) -> None:
        where = f"services.{self.name}"
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,18}[a-z0-9]", self.name):
            raise SettingError(f"{where}.name", self.name, "use 2 to 20 lower-case letters, digits and hyphens")
        if not 1024 <= self.port <= 65535:
            raise SettingError(
                f"{where}.port", self.port, "an unprivileged port (1024 to 65535): tasks do not run as root"
            )
        check_size(where, self.cpu_units, self.memory_mib)
        if not 1 <= self.priority <= 49_000:
            raise SettingError(f"{where}.priority", self.priority, "1 to 49000")
        if not self.paths:
            raise SettingError(
                f"{where}.paths", self.paths, "at least one pattern, or nothing is routed to the service"
            )
        # An ALB rule has at most 5 condition values: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html
        if len(self.paths) > 5:
            raise SettingError(f"{where}.paths", self.paths, "a listener rule takes at most 5 values")
        for pattern in self.paths:
            if not pattern.startswith("/") or len(pattern) > 128:
                raise SettingError(f"{where}.paths", pattern, "starts with / and has at most 128 characters")
        if not self.health_path.startswith("/"):
            raise SettingError(f"{where}.health_path", self.health_path, "starts with /")
        if self.path_prefix and not re.fullmatch(r"(/[a-z0-9-]+)+", self.path_prefix):
            raise SettingError(f"{where}.path_prefix", self.path_prefix, "empty, or like /api")
        for variable, template in self.environment.items():
            for _, placeholder, _, _ in string.Formatter().parse(template):
                if placeholder is not None and placeholder.split("[")[0] not in PLACEHOLDERS:
                    raise SettingError(
                        f"{where}.environment.{variable}",
                        template,
                        f"one of {', '.join(sorted(PLACEHOLDERS))} in braces",
                    )
        known = {secret.name for secret in SECRETS}
        for variable, secret_key in self.secrets.items():
            if secret_key.secret not in known:
                raise SettingError(
                    f"{where}.secrets.{variable}", secret_key.secret, f"one of {', '.join(sorted(known))}"
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

    @property
    def service_name(self) -> str:
        """The ECS service, its task definition's family and its repository."""
        return f"alva-{self.name}"

    @property
    def image_parameter(self) -> str:
        """The template parameter that takes the image's digest."""
        return f"{''.join(part.capitalize() for part in self.name.split('-'))}ImageDigest"

    @property
    def dockerfile(self) -> str:
        return f"apps/{self.name}/Dockerfile"

    @property
    def uses_database(self) -> bool:
        return "{database_url}" in self.environment.values()

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The secrets that its execution role may read, in order, each once."""
        return tuple(dict.fromkeys(secret_key.secret for secret_key in self.secrets.values()))


def check_size(where: str, cpu_units: int, memory_mib: int) -> None:
    """Raise SettingError unless Fargate has a task of this size."""
    if cpu_units not in FARGATE_MEMORY_MIB:
        raise SettingError(f"{where}.cpu_units", cpu_units, f"one of {', '.join(map(str, FARGATE_MEMORY_MIB))}")
    if memory_mib not in FARGATE_MEMORY_MIB[cpu_units]:
        allowed = ", ".join(map(str, sorted(FARGATE_MEMORY_MIB[cpu_units])))
        raise SettingError(f"{where}.memory_mib", memory_mib, f"with {cpu_units} CPU units one of {allowed}")


def check_services(services: Sequence[Service]) -> None:
    """Raise SettingError where two services claim the same thing."""
    for attribute in ("name", "port", "priority", "host_label"):
        taken: dict[object, str] = {}
        for service in services:
            value = getattr(service, attribute)
            if value in taken:
                raise SettingError(
                    f"services.{service.name}.{attribute}", value, f"not what {taken[value]} has already"
                )
            taken[value] = service.name


_FRONTEND_ENVIRONMENT = {
    "NEXT_PUBLIC_API_URL": "{public_base[api]}",
    "NEXT_PUBLIC_AUTH_URL": "{public_base[auth]}",
    "API_INTERNAL_URL": "{internal_url[api]}",
    "AUTH_INTERNAL_URL": "{internal_url[auth]}",
    "PAGE_ORIGINS": "{origins}",
}
_DATA_ENVIRONMENT = {"DATABASE_URL": "{database_url}", "REDIS_URL": "{redis_url}", "CORS_ORIGINS": "{origins}"}
_DATA_SECRETS = {"PGPASSWORD": DATA_TIER_PASSWORD, "REDIS_PASSWORD": DATA_TIER_PASSWORD}

SERVICES: tuple[Service, ...] = (
    Service(
        name="web",
        port=3000,
        paths=("/*",),
        priority=400,
        path_prefix="",
        host_label="{}",
        environment=_FRONTEND_ENVIRONMENT,
        has_pages=True,
    ),
    Service(
        name="api",
        port=3001,
        paths=("/api", "/api/*"),
        priority=100,
        path_prefix="/api",
        host_label="api-{}",
        environment=_DATA_ENVIRONMENT,
        secrets={
            **_DATA_SECRETS,
            "JWT_PUBLIC_KEY": SecretKey(secret="jwt-public-key"),
            "OPENAI_API_KEY": SecretKey(secret="openai-api-key"),
        },
        companions=(Companion(name="worker", command=("python", "-m", "api.worker")),),
        database_connections=8,
    ),
    Service(
        name="auth",
        port=3002,
        paths=("/auth", "/auth/*"),
        priority=200,
        path_prefix="/auth",
        host_label="auth-{}",
        environment={
            **_DATA_ENVIRONMENT,
            "PUBLIC_URL": "{public_url[auth]}",
            "SITE_URL": "{public_base[web]}",
            "COOKIE_DOMAIN": "{cookie_domain}",
            "MAIL_FROM": "{mail_from}",
        },
        secrets={
            **_DATA_SECRETS,
            "JWT_PRIVATE_KEY": SecretKey(secret="jwt-private-key"),
            "JWT_PUBLIC_KEY": SecretKey(secret="jwt-public-key"),
            "JWT_SECRET": SecretKey(secret="jwt-secret"),
            "COOKIE_SECRET": SecretKey(secret="cookie-secret"),
            "RESEND_API_KEY": SecretKey(secret="resend-api-key"),
        },
        database_connections=5,
    ),
    Service(
        name="admin",
        port=3003,
        paths=("/admin", "/admin/*"),
        priority=300,
        path_prefix="/admin",
        host_label="admin-{}",
        # It shows what every service runs.
        environment={**_FRONTEND_ENVIRONMENT, "WEB_INTERNAL_URL": "{internal_url[web]}"},
        has_pages=True,
        allowlisted=True,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Migration:
    """The one-off task that migrates the database, with the image of `service`, before any service changes."""

    family: str = "alva-migrations"
    container: str = "migrations"
    service: str = "api"
    image_parameter: str = "MigrationsImageDigest"
    command: tuple[str, ...] = ("python", "-m", "migrations")
    database_connections: int = 2
    cpu_units: int = 256
    memory_mib: int = 512


MIGRATION = Migration()
