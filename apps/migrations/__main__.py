"""`python -m migrations [upgrade|current|check]`. The default is `upgrade`.

Exit codes: 0 success (check: the database is at the head) · 1 failure (check: it is not at the head) · 75 the database
or a lock was not available, and a retry can succeed · 78 invalid settings.
"""

from __future__ import annotations

import sys
from typing import ClassVar

from common import startup

with startup.without_garbage_collection():
    from sqlalchemy.exc import DBAPIError, OperationalError

    from common.process import EXIT_WRONG_SETTINGS
    from common.settings import ServiceSettings, SettingsError, load
    from migrations import history

EXIT_TRY_AGAIN = 75
"""sysexits.h's EX_TEMPFAIL."""


class MigrationSettings(ServiceSettings):
    """The address of the database. libpq reads PGPASSWORD and PGSSLROOTCERT."""

    service: ClassVar[str] = "migrations"

    port: int = 0
    database_url: str


def main(arguments: list[str]) -> int:
    """Run one command and print its progress."""
    verb = arguments[0] if arguments else "upgrade"
    if verb not in {"upgrade", "current", "check"} or len(arguments) > 1:
        print("usage: python -m migrations [upgrade|current|check]", file=sys.stderr)
        return 2
    try:
        settings = load(MigrationSettings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_WRONG_SETTINGS
    try:
        with history.connect(settings.database_url) as connection:
            at = history.current(connection)
            if verb == "current":
                print(at or "empty")
                return 0
            if verb == "check":
                for revision, title in history.pending(at):
                    print(f"pending {revision}: {title}")
                return 0 if at == history.head() else 1
            print(f"the database is at {at or 'the beginning'}, the head is {history.head()}", flush=True)
            history.upgrade(connection, lambda line: print(line, flush=True))
            print(f"done: the database is at {history.current(connection)}")
    except OperationalError as error:
        print(f"cannot migrate: {error.orig}", file=sys.stderr)
        return EXIT_TRY_AGAIN
    except DBAPIError as error:
        print(f"cannot migrate: {error.orig}\n  in: {error.statement}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
