"""The services of this workspace, for `ALVA_SERVICES=examples/typescript/services.py ./alva up`: see the README."""

from __future__ import annotations

from lib.config.secrets import DatabaseUrl, RedisUrl, SecretKey
from lib.config.service import Companion, Migration, Service

CONTEXT = "examples/typescript"
DATABASE_URL = DatabaseUrl(query="sslmode=verify-full&sslrootcert=/app/certificates/rds-global-bundle.pem")
SESSIONS = SecretKey(secret="jwt-secret")  # noqa: S106  (a name)

SERVICES = (
    Service(
        name="web",
        context=CONTEXT,
        port=3000,
        paths=("/*",),
        priority=400,
        host_label="{}",
        health_path="/up",
        environment={"API_INTERNAL_URL": "{internal_url[api]}"},
        has_pages=True,
    ),
    Service(
        name="api",
        context=CONTEXT,
        port=3001,
        paths=("/api", "/api/*"),
        priority=100,
        host_label="api-{}",
        health_path="/api/up",
        secrets={"DATABASE_URL": DATABASE_URL, "REDIS_URL": RedisUrl(), "JWT_SECRET": SESSIONS},
        companions=(Companion(name="worker", command=("node", "apps/api/dist/worker.js")),),
        database_connections=7,
    ),
    Service(
        name="auth",
        context=CONTEXT,
        port=3002,
        paths=("/auth", "/auth/*"),
        priority=200,
        host_label="auth-{}",
        health_path="/auth/up",
        secrets={"DATABASE_URL": DATABASE_URL, "JWT_SECRET": SESSIONS},
        database_connections=5,
    ),
    Service(
        name="admin",
        context=CONTEXT,
        port=3003,
        paths=("/admin", "/admin/*"),
        priority=300,
        host_label="admin-{}",
        health_path="/admin/up",
        environment={"API_INTERNAL_URL": "{internal_url[api]}"},
        has_pages=True,
        allowlisted=True,
    ),
)

MIGRATION = Migration(
    service="api",
    command=("node", "packages/database/dist/migrate.js"),
    folder="/app/packages/database/drizzle",
    database_connections=1,
)
