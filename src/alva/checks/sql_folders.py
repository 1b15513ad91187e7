"""Reads histories that are plain SQL: Drizzle's and Prisma's.

Drizzle: `meta/_journal.json` lists the files in order (https://orm.drizzle.team/docs/kit-overview). Prisma: one folder
per migration, applied in the order of their names (https://www.prisma.io/docs/orm/prisma-migrate).
"""

from __future__ import annotations

import json
from pathlib import Path

from alva.checks.revisions.history import Revision
from alva.checks.revisions.judge import judge
from alva.errors import AlvaError

JOURNAL = "meta/_journal.json"


def read_drizzle(folder: Path) -> tuple[Revision, ...]:
    """The files that the journal lists, in its order. Raises AlvaError."""
    try:
        entries = sorted(json.loads((folder / JOURNAL).read_text())["entries"], key=lambda entry: int(entry["idx"]))
        tags = [str(entry["tag"]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AlvaError(
            "cannot read the migrations: the journal is not one of Drizzle's",
            evidence=[f"{folder / JOURNAL}: {error!r}"],
            next_step="drizzle-kit generate writes it",
        ) from error
    return _line([(tag, folder / f"{tag}.sql") for tag in tags])


def read_prisma(folder: Path) -> tuple[Revision, ...]:
    """Each folder with a `migration.sql`, by name. Raises AlvaError."""
    return _line([(file.parent.name, file) for file in sorted(folder.glob("*/migration.sql"))])


def _line(files: list[tuple[str, Path]]) -> tuple[Revision, ...]:
    revisions: list[Revision] = []
    for name, file in files:
        try:
            found = judge(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AlvaError(f"cannot read the migration {name}", evidence=[str(error)]) from error
        revisions.append(
            Revision(
                revision=name,
                down_revision=revisions[-1].revision if revisions else None,
                title=name.partition("_")[2].replace("_", " ") or name,
                contractions=tuple(found.contractions),
                locks=tuple(found.locks),
            )
        )
    return tuple(revisions)
