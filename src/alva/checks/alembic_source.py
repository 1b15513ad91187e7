"""Finds Python in an Alembic revision that can make it run other SQL than the judged SQL.

A revision is judged by the SQL that it renders without a database. Python that reads the database, the environment, the
clock or other code can behave differently in production: such a revision is neither run nor judged, and needs approval.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

MODULES = frozenset(
    {
        "__future__",
        "collections",
        "collections.abc",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "itertools",
        "json",
        "re",
        "string",
        "textwrap",
        "typing",
        "uuid",
    }
)
"""Modules that a revision may import besides SQLAlchemy and `alembic.op`: their results are deterministic."""

NAMES = frozenset(
    {
        # The database, or a connection.
        "bind",
        "create_engine",
        "engine_from_config",
        "get_bind",
        "get_context",
        "inspect",
        "invoke",
        "is_offline_mode",
        "migration_context",
        "run_async",
        "Session",
        "sessionmaker",
        # Modules that are reachable through others.
        "builtins",
        "environ",
        "getenv",
        "importlib",
        "os",
        "subprocess",
        "sys",
    }
)
"""Names and attributes whose value or effect is unknown before the revision runs."""

BUILTINS = frozenset(
    {
        "__import__",
        "breakpoint",
        "compile",
        "delattr",
        "eval",
        "exec",
        "getattr",
        "globals",
        "input",
        "locals",
        "open",
        "setattr",
        "vars",
    }
)
"""Python functions that look up names, run text as code, or read files."""

CLOCK = frozenset({"now", "today", "utcnow"})
"""Python's clock; `func.now()` is SQL."""


def unknown_before_it_runs(tree: ast.Module) -> tuple[str, ...]:
    """Return what cannot be known before the revision runs, without its `downgrade`: "line 8 uses get_bind"."""
    is_called = any(isinstance(node, ast.Name) and node.id == "downgrade" for node in ast.walk(tree))
    found: list[tuple[int, str]] = []
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "downgrade" and not is_called:
            continue
        allowed = {id(each) for node in ast.walk(statement) for each in _autocommit(node)}
        for node in ast.walk(statement):
            if id(node) not in allowed:
                found += [(getattr(node, "lineno", 0), what) for what in _judge(node)]
    return tuple(dict.fromkeys(f"line {line} {what}" for line, what in sorted(found)))


def _judge(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"imports {alias.name}" for alias in node.names if not _is_known(alias.name))
    elif isinstance(node, ast.ImportFrom):
        yield from _judge_import_from(node)
    elif isinstance(node, ast.Name):
        if node.id in NAMES | BUILTINS:
            yield f"uses {node.id}"
    elif isinstance(node, ast.Attribute):
        if node.attr in NAMES or node.attr.startswith("__"):
            yield f"uses {node.attr}"
        elif node.attr in CLOCK and not _is_func(node.value):
            yield f"reads the time ({node.attr})"
    elif isinstance(node, ast.Try | ast.TryStar) and node.handlers:
        yield "handles an error (except)"


def _judge_import_from(node: ast.ImportFrom) -> Iterator[str]:
    module = "." * node.level + (node.module or "")
    if module == "alembic":
        yield from (f"imports alembic.{alias.name}" for alias in node.names if alias.name != "op")
    elif _is_known(module):
        yield from (f"imports {module}.{alias.name}" for alias in node.names if alias.name in NAMES)
    else:
        yield f"imports {module}"


def _is_known(module: str) -> bool:
    return module in MODULES or module == "alembic.op" or module == "sqlalchemy" or module.startswith("sqlalchemy.")


def _is_func(node: ast.expr) -> bool:
    """Whether it is SQLAlchemy's `func`."""
    return (isinstance(node, ast.Name) and node.id == "func") or (
        isinstance(node, ast.Attribute) and node.attr == "func"
    )


def _autocommit(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the `op.get_context` of `op.get_context().autocommit_block()`, which Alembic uses for CREATE INDEX
    CONCURRENTLY.

    https://alembic.sqlalchemy.org/en/latest/api/runtime.html (MigrationContext.autocommit_block)
    """
    if isinstance(node, ast.Attribute) and node.attr == "autocommit_block" and isinstance(node.value, ast.Call):
        yield node.value.func
