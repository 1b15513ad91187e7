"""The catalogue of faults: how each is injected, and the expected message and cause.

No fault may fail a user's request or change the environment. Faults that need more than a release (a kill in each step,
a dead engine, a task that ignores SIGTERM) are in `test_interruptions.py`. Faults that only the region's network and
memory limits can show (a missing security group rule, too much memory) are in `test_limits.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import breaking
from .breaking import Breaking

UP = ("up",)
WEB_ALONE = ("deploy", "--service", "web")
API_ALONE = ("deploy", "--service", "api")
AUTH_ALONE = ("deploy", "--service", "auth")

REFUSED, MIGRATION_FAILED, ROLLED_BACK = 3, 4, 5


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, followed by a release."""

    name: str
    breaks: Breaking
    called: tuple[str, ...] = UP
    exit_code: int
    says: tuple[str, ...]
    """The texts of AWS, PostgreSQL or the failed process that the error must contain."""
    outcome: str | None
    """The outcome in the ledger; None if the release was refused."""
    why: tuple[str, str] | None = None
    """Subject and kind of the cause in `./alva why`; None if the release was refused."""
    felt: tuple[str, ...] = ()
    """The paths whose users notice it, on AWS too; each case has the reason."""


CATALOGUE = (
    Fault(
        name="unknown digest",
        breaks=breaking.both(),
        called=("deploy", "--image", f"web=sha256:{'0' * 64}"),
        exit_code=REFUSED,
        says=(f"alva-web@sha256:{'0' * 64}", "nothing was changed"),
        outcome=None,
    ),
    Fault(
        name="image without content",
        breaks=breaking.image_without_content,
        called=("deploy", "--image", f"web={breaking.ABSENT_DIGEST}"),
        exit_code=ROLLED_BACK,
        says=("web: CannotPullContainerError", "not found"),
        outcome="rolled back",
        why=("web", "unknown-image"),
    ),
    Fault(
        name="crash at start",
        breaks=breaking.web_main('raise SystemExit("the setting FLUX is missing")\n'),
        called=WEB_ALONE,
        exit_code=ROLLED_BACK,
        says=("web: Essential container in task exited", "last log: the setting FLUX is missing"),
        outcome="rolled back",
        why=("web", "crash"),
    ),
    Fault(
        # The task ends 15 s after its start, when ECS, CloudFormation and the verification have succeeded. Users get
        # 502 and 503 until another task serves.
        name="crash after a while",
        breaks=breaking.web_main(
            "import os, threading\nthreading.Timer(15, os._exit, (70,)).start()\n" + breaking.SERVE_WEB
        ),
        called=(*WEB_ALONE, "--watch", "60"),
        exit_code=ROLLED_BACK,
        says=("web: Essential container in task exited", "exit code 70"),
        outcome="rolled back",
        why=("web", "crash"),
        felt=("/",),
    ),
    Fault(
        name="slow start beyond the grace period",
        breaks=breaking.web_main("import time\ntime.sleep(120)\n" + breaking.SERVE_WEB),
        called=WEB_ALONE,
        exit_code=ROLLED_BACK,
        says=("web: Task failed ", "health checks"),
        outcome="rolled back",
        why=("web", "slow-start"),
    ),
    Fault(
        name="health 500",
        breaks=breaking.web_main("""
from starlette.responses import Response
from starlette.routing import Route
from common import serve
from web.app import WebSettings, create_app

def broken(settings):
    app = create_app(settings)
    app.router.routes.insert(0, Route("/health", lambda request: Response(status_code=500)))
    return app

serve.run(WebSettings, broken)
"""),
        called=WEB_ALONE,
        exit_code=ROLLED_BACK,
        says=("web: Task failed ", "health checks"),
        outcome="rolled back",
        why=("web", "health-error"),
    ),
    Fault(
        name="wrong port",
        breaks=breaking.web_main('import os\nos.environ["PORT"] = "3999"\n' + breaking.SERVE_WEB),
        called=WEB_ALONE,
        exit_code=ROLLED_BACK,
        says=("web: Task failed ", "health checks"),
        outcome="rolled back",
        why=("web", "wrong-port"),
    ),
    Fault(
        name="wrong health path",
        breaks=breaking.place(
            "infrastructure/lib/config/services.py",
            'host_label="{}",\n',
            'host_label="{}",\n        health_path="/helth",\n',
        ),
        exit_code=ROLLED_BACK,
        says=("404",),  # from the target or from a dependency check, whichever is first
        outcome="rolled back",
        why=("release", "health-path"),
    ),
    Fault(
        # Health checks and paths without a session work; sign-up fails.
        name="auth cut off from its cache",
        breaks=breaking.place(
            "infrastructure/lib/config/services.py",
            '"PUBLIC_URL": "{public_url[auth]}",',
            '"PUBLIC_URL": "{public_url[auth]}",\n            "REDIS_URL": "rediss://cache.nowhere.internal:6379/0",',
        ),
        exit_code=ROLLED_BACK,
        says=("inside: auth by name: RuntimeError: HTTP 503: database ok, cache ",),
        outcome="rolled back",
        why=("release", "dependency"),
    ),
    Fault(
        name="home page gone",
        breaks=breaking.web_main(breaking.page_answers(404)),
        called=WEB_ALONE,
        exit_code=ROLLED_BACK,
        says=("web answers /: HTTP 404",),
        outcome="rolled back",
        why=("release", "client-error"),
    ),
    Fault(
        name="missing secret",
        breaks=breaking.deleted_secret,
        called=WEB_ALONE,
        exit_code=REFUSED,
        says=("alva-staging-cookie-secret: missing",),
        outcome="failed",
        why=("release", "secret-missing"),
    ),
    Fault(
        name="missing key of a secret",
        breaks=breaking.place(
            "infrastructure/lib/config/services.py",
            '"JWT_SECRET": SecretKey(secret="jwt-secret")',
            '"JWT_SECRET": SecretKey(secret="database", key="absent")',
        ),
        exit_code=ROLLED_BACK,
        says=("auth: ResourceInitializationError: unable to pull secrets or registry auth", "absent"),
        outcome="rolled back",
        why=("auth", "secret-key-missing"),
    ),
    Fault(
        name="unreadable secret",
        breaks=breaking.both(breaking.new_version("auth"), breaking.unreadable_secret),
        called=AUTH_ALONE,
        exit_code=ROLLED_BACK,
        says=("auth: ResourceInitializationError: unable to pull secrets or registry auth", "AccessDeniedException"),
        outcome="rolled back",
        why=("auth", "secret-unreadable"),
    ),
    Fault(
        name="placeholder secret",
        breaks=breaking.placeholder_secret,
        called=WEB_ALONE,
        exit_code=REFUSED,
        says=("alva-staging-openai-api-key: not set",),
        outcome=None,
    ),
    Fault(
        name="failing migration",
        breaks=breaking.migration_main('print("relation plans is locked")\nraise SystemExit(3)\n'),
        called=API_ALONE,
        exit_code=MIGRATION_FAILED,
        says=("exit code 3", "last log: relation plans is locked"),
        outcome="failed",
        why=("migration", "crash"),
    ),
    Fault(
        # The time limit of a step is 15 minutes by default.
        name="hanging migration",
        breaks=breaking.migration_main('import time\nprint("waiting for a lock", flush=True)\ntime.sleep(3600)\n'),
        called=(*API_ALONE, "--timeout", "15"),
        exit_code=MIGRATION_FAILED,
        says=("waiting for a lock",),
        outcome="failed",
        why=("migration", "hanging"),
    ),
    Fault(
        name="migration killed",
        breaks=breaking.both(breaking.migration_main("import time\ntime.sleep(3600)\n"), breaking.migration_killed),
        called=API_ALONE,
        exit_code=MIGRATION_FAILED,
        says=("container migrations ended with exit code 137", "ECS: Essential container in task exited"),
        outcome="failed",
        why=("migration", "killed"),
    ),
    Fault(
        name="database down",
        breaks=breaking.both(breaking.new_version("api"), breaking.database_down),
        called=API_ALONE,
        exit_code=MIGRATION_FAILED,
        says=("exit code 75", "Connection refused"),
        outcome="failed",
        why=("migration", "database-down"),
    ),
    Fault(
        name="every connection taken",
        breaks=breaking.both(breaking.new_version("api"), breaking.connections_taken),
        called=API_ALONE,
        exit_code=MIGRATION_FAILED,
        says=("exit code 75", "remaining connection slots are reserved"),
        outcome="failed",
        why=("migration", "connection-budget"),
    ),
    Fault(
        name="connection budget exceeded",
        breaks=breaking.place(
            "infrastructure/lib/config/services.py", "database_connections=8", "database_connections=80"
        ),
        called=API_ALONE,
        exit_code=REFUSED,
        says=("connections at most are opened, db.t3.micro allows",),
        outcome=None,
    ),
)
