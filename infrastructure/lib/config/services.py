"""The services of an environment. All resources of a service are created from its entry here.

A new service is one more `Service` and a folder below `apps/`. Values in `environment` can contain these placeholders:

    {database_url} {redis_url}          without passwords; `DatabaseUrl` and `RedisUrl` in `secrets` include them
    {public_url[api]} {internal_url[api]}   a service's URL for browsers, and for tasks, without its path prefix
    {public_base[api]}                  for browsers, with the prefix; relative if all services share one host
    {origins} {cookie_domain} {mail_from}

`ALVA_SERVICES` names a file that replaces this one, such as examples/typescript/services.py.
"""

from __future__ import annotations

from lib.config.chosen_services import chosen_services
from lib.config.secrets import DATA_TIER_PASSWORD, DatabaseUrl, RedisUrl, SecretKey  # noqa: F401  (for new entries)
from lib.config.service import Companion, Migration, Service

COMMON_HEALTH_COMMAND = ("python", "-S", "-m", "common.healthcheck")
"""The health check of images that have `apps/common`."""

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
        health_command=COMMON_HEALTH_COMMAND,
        environment=_FRONTEND_ENVIRONMENT,
        has_pages=True,
        journey_command=("python", "apps/user_journey.py"),
    ),
    Service(
        name="api",
        port=3001,
        paths=("/api", "/api/*"),
        priority=100,
        path_prefix="/api",
        host_label="api-{}",
        health_command=COMMON_HEALTH_COMMAND,
        environment=_DATA_ENVIRONMENT,
        secrets={
            **_DATA_SECRETS,
            "JWT_PUBLIC_KEY": SecretKey(secret="jwt-public-key"),
            "OPENAI_API_KEY": SecretKey(secret="openai-api-key"),
        },
        deep_check_command=("python", "-m", "common.deep_check"),
        companions=(Companion(name="worker", command=("python", "-m", "api.worker")),),
        has_queue=True,
        database_connections=8,
    ),
    Service(
        name="auth",
        port=3002,
        paths=("/auth", "/auth/*"),
        priority=200,
        path_prefix="/auth",
        host_label="auth-{}",
        health_command=COMMON_HEALTH_COMMAND,
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
        health_command=COMMON_HEALTH_COMMAND,
        # It shows the digest that each service runs.
        environment={**_FRONTEND_ENVIRONMENT, "WEB_INTERNAL_URL": "{internal_url[web]}"},
        has_pages=True,
        allowlisted=True,
    ),
)

MIGRATION = Migration(service="api", command=("python", "-m", "migrations"), folder="/app/migrations/versions")

SERVICES, MIGRATION = chosen_services(SERVICES, MIGRATION)
