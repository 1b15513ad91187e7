"""What a migration's revisions do to the schema, judged by the SQL that Alembic renders for them without a database.

While a release rolls out, the old version still works with the new schema; after a rollback it does so for long. So a
revision may add; what takes something away from the old version is a contraction, and belongs into a later release.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from alva.checks.sql import Judgement, judge
from alva.errors import AlvaError

RENDER_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One revision of the history."""

    revision: str
    down_revision: str | None
    title: str
    contractions: tuple[str, ...] = ()
    """What it takes away from the version that runs, or is not known not to, in words."""
    locks: tuple[str, ...] = ()
    """What others wait for while it runs, in words."""


def read_revisions(folder: Path, cache: Path | None = None) -> tuple[Revision, ...]:
    """The history in `folder` (Alembic's `versions`), oldest first. Raises AlvaError when it is no single line.

    `cache` is a folder where judgements are kept: the same revisions are not rendered twice.
    """
    files = [file for file in sorted(folder.glob("*.py")) if file.name != "__init__.py"]
    judgements = _judgements(folder, files, cache) if files else {}
    revisions = [_read(file, judgements[file.name]) for file in files]
    by_parent: dict[str | None, Revision] = {}
    for revision in revisions:
        if revision.down_revision in by_parent:
            raise AlvaError(
                f"cannot read the migrations: {revision.revision} and {by_parent[revision.down_revision].revision} "
                f"both follow {revision.down_revision or 'the beginning'}",
                next_step="let one follow the other (down_revision)",
            )
        by_parent[revision.down_revision] = revision
    ordered: list[Revision] = []
    at: str | None = None
    while at in by_parent:
        ordered.append(by_parent[at])
        at = ordered[-1].revision
    if len(ordered) != len(revisions):
        lost = sorted({r.revision for r in revisions} - {r.revision for r in ordered})
        raise AlvaError(f"cannot read the migrations: {', '.join(lost)} follow nothing", evidence=[str(folder)])
    return tuple(ordered)


def pending(revisions: Sequence[Revision], at: str | None) -> tuple[Revision, ...]:
    """Those after `at`; all when the database is empty or at a revision that is not among them."""
    names = [revision.revision for revision in revisions]
    return tuple(revisions[names.index(at) + 1 :] if at in names else revisions)


def _read(file: Path, judgement: Judgement) -> Revision:
    try:
        tree = ast.parse(file.read_text(), str(file))
    except (OSError, SyntaxError) as error:
        raise AlvaError(f"cannot read the migration {file.name}", evidence=[str(error)]) from error
    values = dict(_assignments(tree))
    if not isinstance(values.get("revision"), str):
        raise AlvaError(f"cannot read the migration {file.name}: it has no revision = ...")
    down = values.get("down_revision")
    return Revision(
        revision=str(values["revision"]),
        down_revision=down if isinstance(down, str) else None,
        title=(ast.get_docstring(tree) or file.stem).strip().splitlines()[0],
        contractions=judgement.contractions,
        locks=judgement.locks,
    )


def _judgements(folder: Path, files: Sequence[Path], cache: Path | None) -> dict[str, Judgement]:
    """File name -> what its revision does to others."""
    kept = cache / f"{_key(folder, files)}.json" if cache is not None else None
    if kept is not None and kept.exists():
        return {name: Judgement(**{k: tuple(v) for k, v in each.items()}) for name, each in _load(kept).items()}
    judged = {name: _judge(rendered) for name, rendered in _render(folder).items()}
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        complete = kept.with_suffix(f".{os.getpid()}")
        complete.write_text(json.dumps({name: asdict(each) for name, each in judged.items()}))
        complete.replace(kept)
    return judged


def _key(folder: Path, files: Sequence[Path]) -> str:
    """The content of the revisions, of what they may import, and of the judges."""
    imported = [file for file in sorted(folder.parent.glob("*.py")) if file not in files]
    judges = [Path(__file__), Path(__file__).with_name("sql.py"), Path(__file__).with_name("alembic_sql.py")]
    digest = hashlib.sha256()
    for file in (*files, *imported, *judges):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _load(file: Path) -> dict[str, dict[str, list[str]]]:
    loaded: dict[str, dict[str, list[str]]] = json.loads(file.read_text())
    return loaded


def _judge(rendered: Mapping[str, str]) -> Judgement:
    if "sql" in rendered:
        return judge(rendered["sql"])
    why = rendered.get("error", "it was not rendered")
    return Judgement(contractions=(f"cannot be judged, since Alembic cannot render it as SQL: {why}",))


def _render(folder: Path) -> dict[str, dict[str, str]]:
    """File name -> its SQL, or why there is none. Revisions are code: they run in a process of their own."""
    command = [sys.executable, "-m", "alva.checks.alembic_sql", str(folder)]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=RENDER_SECONDS, check=False)
        rendered: dict[str, dict[str, str]] = json.loads(finished.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise AlvaError(
            f"cannot render the migrations in {folder} as SQL",
            evidence=[str(error), *(finished.stderr.splitlines()[-3:] if "finished" in locals() else ())],
        ) from error
    return rendered


def _assignments(tree: ast.Module) -> Iterator[tuple[str, object]]:
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                yield target.id, value.value
