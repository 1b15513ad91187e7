"""Judges a migration's revisions by their SQL, from SQL files or rendered by Alembic.

During a rollout, the running version uses the new schema; after a rollback, it keeps using it. So a revision may add
things. A revision that removes something from the running version is a contraction, and belongs in a later release.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from alva.checks.alembic_source import unknown_before_it_runs
from alva.checks.sql import CHILD_ENVIRONMENT, Judgement, judge
from alva.checks.sql_folders import read_sql_folder
from alva.errors import AlvaError

RENDER_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One revision."""

    revision: str
    down_revision: str | None
    title: str
    contractions: tuple[str, ...] = ()
    """What it removes from the running version, or may remove, as text."""
    locks: tuple[str, ...] = ()
    """What blocks other sessions while it runs, as text."""


def read_revisions(folder: Path, cache: Path | None = None) -> tuple[Revision, ...]:
    """Return the revisions in `folder`, oldest first: Alembic's `versions`, or SQL files of Drizzle or Prisma.

    `cache` is a folder of judgements, so that a revision is judged once. Raises AlvaError when the revisions cannot be
    read, or are not a single line.
    """
    if sources := read_sql_folder(folder):
        return _read_sql(sources, cache)
    files = [file for file in sorted(folder.glob("*.py")) if file.name != "__init__.py"]
    return _in_one_line(_read_alembic(files, cache), folder)


def _read_sql(sources: Mapping[str, str], cache: Path | None) -> tuple[Revision, ...]:
    judgements = _kept(cache, sources, lambda: {name: judge(sql) for name, sql in sources.items()})
    parents = [None, *sources]
    return tuple(
        Revision(
            revision=name,
            down_revision=parent,
            title=name.partition("_")[2].replace("_", " ") or name,
            contractions=judgements[name].contractions,
            locks=judgements[name].locks,
        )
        for name, parent in zip(sources, parents, strict=False)
    )


def _read_alembic(files: Sequence[Path], cache: Path | None) -> list[Revision]:
    try:
        sources = {file.name: file.read_text(encoding="utf-8") for file in files}
        trees = {name: ast.parse(source, name) for name, source in sources.items()}
    except (OSError, ValueError, SyntaxError) as error:
        raise AlvaError("cannot read the migrations", evidence=[str(error)]) from error
    judgements = _kept(cache, sources, lambda: _judge_alembic(files, trees)) if files else {}
    return [_revision(name, tree, judgements[name]) for name, tree in trees.items()]


def _revision(name: str, tree: ast.Module, judgement: Judgement) -> Revision:
    values = dict(_assignments(tree))
    if not isinstance(values.get("revision"), str):
        raise AlvaError(
            f"cannot read the migration {name}: it does not set `revision`",
            next_step='write revision = "..." in the file',
        )
    down = values.get("down_revision")
    return Revision(
        revision=str(values["revision"]),
        down_revision=down if isinstance(down, str) else None,
        title=(ast.get_docstring(tree) or Path(name).stem).strip().splitlines()[0],
        contractions=judgement.contractions,
        locks=judgement.locks,
    )


def _in_one_line(revisions: Sequence[Revision], folder: Path) -> tuple[Revision, ...]:
    by_parent: dict[str | None, Revision] = {}
    for revision in revisions:
        if revision.down_revision in by_parent:
            raise AlvaError(
                f"cannot read the migrations: {revision.revision} and {by_parent[revision.down_revision].revision} "
                f"both follow {revision.down_revision or 'the beginning'}",
                next_step="make one follow the other (down_revision)",
            )
        by_parent[revision.down_revision] = revision
    ordered: list[Revision] = []
    at: str | None = None
    while at in by_parent:
        ordered.append(by_parent[at])
        at = ordered[-1].revision
    if len(ordered) != len(revisions):
        lost = sorted({r.revision for r in revisions} - {r.revision for r in ordered})
        raise AlvaError(
            f"cannot read the migrations: the down_revision of {', '.join(lost)} names no migration of the folder",
            evidence=[str(folder)],
            next_step="correct down_revision",
        )
    return tuple(ordered)


def pending(revisions: Sequence[Revision], at: str | None) -> tuple[Revision, ...]:
    """Return the revisions after `at`; all if the database is empty or at an unknown revision."""
    names = [revision.revision for revision in revisions]
    return tuple(revisions[names.index(at) + 1 :] if at in names else revisions)


def _judge_alembic(files: Sequence[Path], trees: Mapping[str, ast.Module]) -> dict[str, Judgement]:
    """Return file name -> judgement. Revisions that cannot be known beforehand are not run here."""
    unknown = {name: found for name, tree in trees.items() if (found := unknown_before_it_runs(tree))}
    rendered = _render([file for file in files if file.name not in unknown])
    return {
        name: Judgement(contractions=(f"cannot be judged, since it may run other SQL: {', '.join(unknown[name])}",))
        if name in unknown
        else _judge(rendered.get(name, {}))
        for name in trees
    }


def _kept(
    cache: Path | None, sources: Mapping[str, str], judge_all: Callable[[], dict[str, Judgement]]
) -> dict[str, Judgement]:
    """Return the cached judgements of the same sources by the same code, or judge now."""
    kept = cache / f"{_key(sources)}.json" if cache is not None else None
    if kept is not None and kept.exists():
        return {name: Judgement(**{k: tuple(v) for k, v in each.items()}) for name, each in _load(kept).items()}
    judged = judge_all()
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        complete = kept.with_suffix(f".{os.getpid()}")
        complete.write_text(json.dumps({name: asdict(each) for name, each in judged.items()}))
        complete.replace(kept)
    return judged


def _key(sources: Mapping[str, str]) -> str:
    """Return a digest of the revisions and of the judging code."""
    judges = (Path(__file__).with_name(f"{name}.py") for name in ("revisions", "sql", "alembic_sql", "alembic_source"))
    digest = hashlib.sha256()
    for text in (*(part for item in sources.items() for part in item), *(file.read_text() for file in judges)):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def _load(file: Path) -> dict[str, dict[str, list[str]]]:
    loaded: dict[str, dict[str, list[str]]] = json.loads(file.read_text())
    return loaded


def _judge(rendered: Mapping[str, str]) -> Judgement:
    if "sql" in rendered:
        return judge(rendered["sql"])
    why = rendered.get("error", "it was not rendered")
    return Judgement(contractions=(f"cannot be judged, since Alembic cannot render it as SQL: {why}",))


def _render(files: Sequence[Path]) -> dict[str, dict[str, str]]:
    """Return file name -> its SQL, or an error. Revisions are code: they run in a separate process.

    That process does not get this process's environment, which can contain credentials.
    """
    if not files:
        return {}
    command = [sys.executable, "-I", "-m", "alva.checks.alembic_sql", *map(str, files)]
    try:
        finished = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RENDER_SECONDS,
            check=False,
            env=CHILD_ENVIRONMENT,
        )
        rendered: dict[str, dict[str, str]] = json.loads(finished.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise AlvaError(
            f"cannot render the migrations in {files[0].parent} as SQL",
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
