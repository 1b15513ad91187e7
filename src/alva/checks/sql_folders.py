"""Reads folders of SQL migrations: Drizzle's, Prisma's, or files in the order of their names.

Drizzle: `meta/_journal.json` lists the files in order (https://orm.drizzle.team/docs/kit-overview). Prisma: one folder
per migration, in the order of their names (https://www.prisma.io/docs/orm/prisma-migrate).
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from alva.errors import AlvaError

JOURNAL = "meta/_journal.json"


def read_sql_folder(folder: Path) -> dict[str, str]:
    """Return a migration's name -> its SQL, in the order of execution; empty if `folder` has no SQL.

    Raises AlvaError for a journal that is not Drizzle's, and for files that are missing or not UTF-8.
    """
    migrations = {}
    for name, file in _drizzle(folder) if (folder / JOURNAL).exists() else _prisma(folder) or _plain(folder):
        try:
            migrations[name] = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise AlvaError(f"cannot read the migration {name}", evidence=[str(error)]) from error
    return migrations


def _drizzle(folder: Path) -> list[tuple[str, Path]]:
    """Return the files in the order of the journal's entries, as Drizzle runs them.

    Drizzle runs an entry only if its `when` is later than that of the database's last migration, and skips others
    without an error (https://github.com/drizzle-team/drizzle-orm/issues/5316).
    """
    try:
        text = (folder / JOURNAL).read_text(encoding="utf-8")
        entries = [(int(each["idx"]), str(each["tag"]), each.get("when")) for each in json.loads(text)["entries"]]
        times = [(tag, int(when)) for _, tag, when in entries if when is not None]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AlvaError(
            "cannot read the migrations: the journal is not one of Drizzle's",
            evidence=[f"{folder / JOURNAL}: {error!r}"],
            next_step="drizzle-kit generate writes it",
        ) from error
    if len({index for index, _, _ in entries}) != len(entries):
        raise AlvaError(
            "cannot read the migrations: two of them have the same idx in Drizzle's journal",
            evidence=[str(folder / JOURNAL)],
            next_step="remove the newer one and generate it again (drizzle-kit generate)",
        )
    for (before, earlier), (tag, when) in pairwise(times):
        if when <= earlier:
            raise AlvaError(
                f"cannot read the migrations: Drizzle skips {tag} without an error where {before} has run",
                evidence=[f"{folder / JOURNAL}: its `when` is {when}, that of {before} is {earlier}"],
                next_step=f"if no database has it, generate {tag} again (drizzle-kit generate) or set a later `when`",
            )
    return [(tag, folder / f"{tag}.sql") for _, tag, _ in entries]


def _prisma(folder: Path) -> list[tuple[str, Path]]:
    return [(file.parent.name, file) for file in sorted(folder.glob("*/migration.sql"))]


def _plain(folder: Path) -> list[tuple[str, Path]]:
    return [(file.stem, file) for file in sorted(folder.glob("*.sql")) if not file.stem.endswith(".down")]
