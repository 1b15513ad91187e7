"""What can go wrong: how it is brought about, what is called, and what is said about it.

Every one must leave users without a failed request and the environment as it was.
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
    """One thing that is broken, then released."""

    name: str
    breaks: Breaking
    called: tuple[str, ...] = UP
    exit_code: int
    says: tuple[str, ...]
    """In the words of AWS, of PostgreSQL or of the process that failed."""
    outcome: str | None
    """The ledger's; None where nothing was begun, so that nothing is written down."""


CATALOGUE = (
    Fault(
        name="unknown digest",
        breaks=breaking.both(),
        called=("deploy", "--image", f"web=sha256:{'0' * 64}"),
        exit_code=REFUSED,
        says=(f"alva-web@sha256:{'0' * 64}", "nothing was touched"),
        outcome=None,
    ),
    Fault(
        name="image without content",
        breaks=breaking.image_without_content,
        called=("deploy", "--image", f"web={breaking.ABSENT_DIGEST}"),
        exit_code=ROLLED_BACK,
        says=("web: CannotPullContainerError", "not found"),
        outcome="rolled back",
    ),
    Fault(
        name="crash at start",
        breaks=breaking.web_main('raise SystemExit("the setting FLUX is missing")\n'),
        called=WEB_ALONE,
        exit_code=ROLLED_BACK,
        says=("web: Essential container in task exited", "last log: the setting FLUX is missing"),
        outcome="rolled back",
    ),
    Fault(
        name="slow start beyond the grace period",
        breaks=breaking.web_main("import time\ntime.sleep(120)\n" + breaking.SERVE_WEB),
        called=WEB_ALONE,
        exit_code=ROLLED_BACK,
        says=("web: Task failed ", "health checks"),
        outcome="rolled back",
    ),
    Fault(
        name="health 500",
        breaks=breaking.web_main("""
from starlette.responses import Response
from starlette.routing import Route
from kit import serve
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
    ),
    Fault(
        name="wrong port",
        breaks=breaking.web_main('import os\nos.environ["PORT"] = "3999"\n' + breaking.SERVE_WEB),
        called=WEB_ALONE,
        exit_code=ROLLED_BACK,
        says=("web: Task failed ", "health checks"),
        outcome="rolled back",
    ),
    Fault(
        name="unreadable secret",
        breaks=breaking.both(breaking.new_version("auth"), breaking.unreadable_secret),
        called=AUTH_ALONE,
        exit_code=ROLLED_BACK,
        says=("auth: ResourceInitializationError: unable to pull secrets or registry auth", "AccessDeniedException"),
        outcome="rolled back",
    ),
    Fault(
        name="failing migration",
        breaks=breaking.migration_main('print("relation plans is locked")\nraise SystemExit(3)\n'),
        called=API_ALONE,
        exit_code=MIGRATION_FAILED,
        says=("exit code 3", "last log: relation plans is locked"),
        outcome="failed",
    ),
    Fault(
        name="database down",
        breaks=breaking.both(breaking.new_version("api"), breaking.database_down),
        called=API_ALONE,
        exit_code=MIGRATION_FAILED,
        says=("exit code 75", "Connection refused"),
        outcome="failed",
    ),
    Fault(
        name="every connection taken",
        breaks=breaking.both(breaking.new_version("api"), breaking.connections_taken),
        called=API_ALONE,
        exit_code=MIGRATION_FAILED,
        says=("exit code 75", "remaining connection slots are reserved"),
        outcome="failed",
    ),
    Fault(
        name="connection budget exceeded",
        breaks=breaking.place(
            "infrastructure/lib/config/services.py", "database_connections=8", "database_connections=80"
        ),
        called=("preflight",),
        exit_code=REFUSED,
        says=("connections at most are opened, db.t3.micro allows",),
        outcome=None,
    ),
)
