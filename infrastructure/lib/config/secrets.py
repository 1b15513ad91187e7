"""The environment's secrets, and the types with which a service entry refers to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Secret:
    """One of the environment's secrets, `<prefix>-<name>` in Secrets Manager.

    `kind` is the source of its value. CloudFormation generates `generated` secrets, and builds `url` secrets from the
    generated password. The release tool sets all others, which have the value `alva:unset` until then.
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
    """A reference to a whole secret, or to one key of a JSON value."""

    secret: str
    key: str | None = None


# Database and cache share one generated password: docs/decisions/one-data-tier-credential.md
DATA_TIER_PASSWORD = SecretKey(secret=DATABASE_SECRET, key="password")


@dataclass(frozen=True, kw_only=True)
class DatabaseUrl:
    """The database's URL with user and password: docs/decisions/credentials-beside-urls.md.

    `query` has the client's TLS options. RDS's certificates are signed by its own authorities, so a client that
    verifies them needs the file of these authorities: `sslmode=verify-full&sslrootcert=/app/rds.pem` for node-postgres.
    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html
    """

    query: str = "sslmode=verify-full"


@dataclass(frozen=True, kw_only=True)
class RedisUrl:
    """The cache's URL with its AUTH token. `rediss:` means TLS. A public authority signs the certificate."""

    query: str = ""


DATABASE_URLS = Secret(
    name="database-url", kind="url", description="The database's URL with its password, for each service that asks"
)
REDIS_URLS = Secret(
    name="redis-url", kind="url", description="The cache's URL with its AUTH token, for each service that asks"
)
URL_SECRETS: Mapping[type[DatabaseUrl | RedisUrl], Secret] = MappingProxyType(
    {DatabaseUrl: DATABASE_URLS, RedisUrl: REDIS_URLS}
)
"""Type of URL -> its secret: a JSON object with one key for each variable of a service."""
