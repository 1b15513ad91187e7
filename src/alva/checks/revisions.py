"""What a migration's revisions do to the schema, read from their sources without running them.

While a release rolls out, the old version still works with the new schema; after a rollback it does so for long. So a
revision may add; what takes something away from the old version is a contraction, and belongs into a later release.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from alva.errors import AlvaError

CONTRACTING_CALLS = {
    "drop_table": "drops table {0}",
    "drop_column": "drops column {0}.{1}",
    "rename_table": "renames table {0}",
}

CONTRACTING_SQL = re.compile(
    r"\bDROP\s+(TABLE|COLUMN|SCHEMA|TYPE|VIEW|MATERIALIZED\s+VIEW|SEQUENCE|FUNCTION)\b"
    r"|\bRENAME\s+(TO|COLUMN)\b|\bSET\s+NOT\s+NULL\b|\bALTER\s+COLUMN\s+\S+\s+(SET\s+DATA\s+)?TYPE\b|\bTRUNCATE\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One revision of the history."""

    revision: str
    down_revision: str | None
    title: str
    contractions: tuple[str, ...] = ()
    """What it takes away from the version that runs, in words."""


def read_revisions(folder: Path) -> tuple[Revision, ...]:
    """The history in `folder` (Alembic's `versions`), oldest first. Raises AlvaError when it is no single line."""
    revisions = [_read(file) for file in sorted(folder.glob("*.py")) if file.name != "__init__.py"]
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


def _read(file: Path) -> Revision:
    try:
        tree = ast.parse(file.read_text(), str(file))
    except (OSError, SyntaxError) as error:
        raise AlvaError(f"cannot read the migration {file.name}", evidence=[str(error)]) from error
    values = dict(_assignments(tree))
    if not isinstance(values.get("revision"), str):
        raise AlvaError(f"cannot read the migration {file.name}: it has no revision = ...")
    down = values.get("down_revision")
    forwards = [node for node in tree.body if not (isinstance(node, ast.FunctionDef) and node.name == "downgrade")]
    return Revision(
        revision=str(values["revision"]),
        down_revision=down if isinstance(down, str) else None,
        title=(ast.get_docstring(tree) or file.stem).strip().splitlines()[0],
        contractions=tuple(dict.fromkeys(_contractions(forwards))),
    )


def _assignments(tree: ast.Module) -> Iterator[tuple[str, object]]:
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                yield target.id, value.value


def _contractions(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in (each for top in nodes for each in ast.walk(top)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name, arguments = node.func.attr, [_text(argument) for argument in node.args]
        options = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in CONTRACTING_CALLS:
            yield CONTRACTING_CALLS[name].format(*arguments, "?", "?")
        elif name == "alter_column":
            column = ".".join(arguments[:2])
            if "new_column_name" in options:
                yield f"renames column {column}"
            if "type_" in options:
                yield f"changes the type of column {column}"
            if _is(options.get("nullable"), value=False):
                yield f"requires a value in column {column}"
        elif name == "add_column":
            yield from _required_column(node)
        elif name == "execute":
            yield from _contracting_sql(node)


def _required_column(call: ast.Call) -> Iterator[str]:
    """A new column that must have a value and has no default: inserts of the version that runs then fail."""
    for column in (a for a in call.args if isinstance(a, ast.Call)):
        options = {keyword.arg: keyword.value for keyword in column.keywords}
        if _is(options.get("nullable"), value=False) and "server_default" not in options:
            yield f"adds column {_text(call.args[0])}.{_text(column.args[0]) if column.args else '?'} without a default"


def _contracting_sql(call: ast.Call) -> Iterator[str]:
    texts = [
        node.value
        for argument in call.args
        for node in ast.walk(argument)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    if call.args and not texts:
        yield "runs SQL that is made only at run time"
    for text in texts:
        if found := CONTRACTING_SQL.search(text):
            yield f"runs {' '.join(found[0].split())} in SQL"


def _text(node: ast.AST) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "?"


def _is(node: ast.AST | None, *, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
