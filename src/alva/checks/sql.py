"""Judges a migration's SQL: can the running version use the schema afterwards, and meanwhile?

PostgreSQL's own parser reads the SQL. A statement on the list of additive statements is harmless; any other is a
contraction, even an unknown one. squawk finds locks that block other sessions.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alva.errors import AlvaError

Node = Mapping[str, Any]

HARMLESS = frozenset(
    {
        "AnalyzeStmt",
        "CommentStmt",
        "CompositeTypeStmt",
        "CreateDomainStmt",
        "CreateEnumStmt",
        "CreateExtensionStmt",
        "CreateSchemaStmt",
        "CreateSeqStmt",
        "CreateStatsStmt",
        "CreateTableAsStmt",
        "TransactionStmt",
        "VacuumStmt",
    }
)
"""Statements that only add, or that queries cannot notice."""

HARMLESS_SETTINGS = frozenset(
    {"lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "maintenance_work_mem"}
)
"""Settings that SET may change. Another `search_path`, for example, changes the meaning of all later names."""

HARMLESS_FUNCTIONS = frozenset(
    {"now", "count", "lower", "upper", "nextval", "gen_random_uuid", "uuid_generate_v4", "clock_timestamp", "random"}
)
"""Functions that queries and inserts may call; any other function can change rows."""

HARMLESS_CHANGES = frozenset(
    {
        "AT_DropNotNull",
        "AT_ValidateConstraint",
        "AT_SetStatistics",
        "AT_SetStorage",
        "AT_SetRelOptions",
        "AT_SetOptions",
    }
)
"""ALTER TABLE commands that take nothing from the running version."""

CHANGES = {
    "AT_DropColumn": "drops column {table}.{name}",
    "AT_SetNotNull": "requires a value in column {table}.{name}",
    "AT_AlterColumnType": "changes the type of column {table}.{name}",
    "AT_DropConstraint": "drops constraint {name} of table {table}",
    "AT_EnableRowSecurity": "restricts the rows of table {table}",
    "AT_ForceRowSecurity": "restricts the rows of table {table}",
}
RUNS_QUERIES = frozenset({"CreateTableAsStmt", "DeleteStmt", "InsertStmt", "SelectStmt", "UpdateStmt"})
"""Statements that run their queries immediately."""

STATEMENTS = {
    "CallStmt": "calls a procedure",
    "DeleteStmt": "deletes rows of {table}",
    "DoStmt": "runs a DO block, whose content is not judged",
    "DropOwnedStmt": "drops what a role owns",
    "TruncateStmt": "empties a table",
    "UpdateStmt": "changes rows of {table}",
}
KINDS = {"OBJECT_TABLE": "table", "OBJECT_VIEW": "view", "OBJECT_SCHEMA": "schema", "OBJECT_INDEX": "index"}

LOCK_RULES = {
    "require-concurrent-index-creation": "writes wait while it builds the index (CREATE INDEX CONCURRENTLY does not)",
    "require-concurrent-index-deletion": "reads and writes wait while it drops the index (use CONCURRENTLY)",
    "constraint-missing-not-valid": "writes wait while it checks every row (NOT VALID, then VALIDATE, does not)",
    "adding-foreign-key-constraint": "writes to both tables wait while it checks every row (NOT VALID does not)",
    "adding-serial-primary-key-field": "reads and writes wait while it rewrites the table",
    "changing-column-type": "reads and writes wait while it rewrites the table",
    "adding-field-with-default": "reads and writes wait while it rewrites the table",
    "adding-not-nullable-field": "reads and writes wait while it checks every row",
    "disallowed-unique-constraint": "reads and writes wait while it builds the constraint's index",
}
"""Squawk's rules about locks (https://squawkhq.com/docs/rules) -> the effect on other sessions."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The effects of a migration."""

    contractions: tuple[str, ...] = ()
    """What it removes from the running version, or may remove, as text."""
    locks: tuple[str, ...] = ()
    """What blocks other sessions while it runs, as text."""


CHILD_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8"}
"""The environment of the judging programs: without credentials, tokens or database addresses."""

_MADE_ONCE = re.compile(
    r"\s*BEGIN\s+(?P<statement>[^;]+);\s*EXCEPTION\s+WHEN\s+duplicate_object\s+THEN\s+NULL\s*;\s*END\s*;?\s*",
    re.IGNORECASE,
)
"""The body of Drizzle's DO block around CREATE TYPE and ADD CONSTRAINT."""

SQUAWK_OPTIONS = (
    *("--reporter", "Json", "--pg-version", "16", "--stdin-filepath", "migration.sql"),
    # In a transaction, as Alembic runs it: then squawk knows the tables that the migration creates.
    "--assume-in-transaction",
)


def judge(sql: str) -> Judgement:
    """Judge a migration's SQL as a whole: changes of tables that it creates itself are harmless.

    SQL that PostgreSQL's parser rejects is a contraction. Raises AlvaError when squawk cannot run.
    """
    import pgparse

    try:
        statements, all_sql = _parse(sql)
    except pgparse.PGQueryError as error:
        return Judgement(contractions=(f"holds SQL that PostgreSQL's parser refuses: {error}",))
    own: set[str] = set()
    contractions: list[str] = []
    for statement in statements:
        ((kind, node),) = statement.items()
        contractions += _judge(kind, node, own)
    return Judgement(contractions=tuple(dict.fromkeys(contractions)), locks=tuple(dict.fromkeys(_locks(all_sql))))


def _parse(sql: str) -> tuple[list[Node], str]:
    """Return the statements and their SQL, without DO blocks that only create what does not exist."""
    import pgparse

    statements: list[Node] = []
    for each in pgparse.parse(sql):
        options = {
            o["DefElem"]["defname"]: o["DefElem"].get("arg") for o in each["stmt"].get("DoStmt", {}).get("args", [])
        }
        block = _MADE_ONCE.fullmatch(options["as"]["String"]["sval"]) if set(options) == {"as"} else None
        if block is None:
            statements.append(each["stmt"])
        else:
            sql += f"\n{block['statement']};"
            statements += [inner["stmt"] for inner in pgparse.parse(block["statement"])]
    return statements, sql


def _judge(kind: str, node: Node, own: set[str]) -> Iterator[str]:
    """Yield what a statement takes away; adds the tables that it creates to `own`."""
    table = _name(node.get("relation") or node.get("rel") or {})
    if kind == "CreateStmt":
        if "inhRelations" in node:
            yield f"makes table {table} a part of an existing one"
        if not node.get("if_not_exists"):  # otherwise the table can exist and be in use
            own.add(table)
    elif kind in RUNS_QUERIES and _changes_in(node):
        yield f"changes or deletes rows in a query within {kind.removesuffix('Stmt').upper()}"
    elif kind in RUNS_QUERIES and _calls_in(node):
        yield f"calls functions that may change something: {', '.join(sorted(_calls_in(node)))}"
    elif kind == "VacuumStmt" and any(each["DefElem"]["defname"] == "full" for each in node.get("options", [])):
        yield "rewrites tables and blocks reads meanwhile (VACUUM FULL)"
    elif kind == "VariableSetStmt":
        if node.get("name") not in HARMLESS_SETTINGS:
            yield f"sets {node.get('name', 'a setting')}"
    elif kind in HARMLESS or (table and table in own):
        return
    elif kind == "AlterTableStmt":
        for command in node.get("cmds", []):
            yield from _judge_change(table, command["AlterTableCmd"])
    elif kind == "IndexStmt":
        if node.get("unique"):
            yield f"makes column values of table {table} unique: it may reject writes of the running version"
    elif kind == "InsertStmt":
        if node.get("onConflictClause", {}).get("action") == "ONCONFLICT_UPDATE":
            yield f"changes rows of {table}"
    elif kind == "GrantStmt":
        if not node.get("is_grant"):
            yield "revokes privileges"
    elif kind == "AlterEnumStmt":
        if "oldVal" in node:
            yield f"renames value {node['oldVal']} of type {_joined(node.get('typeName', []))}"
    elif kind in ("ViewStmt", "CreateFunctionStmt"):
        if node.get("replace"):
            what = _name(node.get("view", {})) or _joined(node.get("funcname", []))
            yield f"replaces {'view' if kind == 'ViewStmt' else 'function'} {what}"
    elif kind == "DropStmt":
        yield f"drops {_kind(node.get('removeType'))} {', '.join(_dropped(node))}"
    elif kind == "RenameStmt":
        column = f".{node['subname']}" if "subname" in node else ""
        yield f"renames {_kind(node.get('renameType'))} {table or _joined(node.get('object', {}))}{column}"
    elif kind == "AlterObjectSchemaStmt":
        yield f"moves {_kind(node.get('objectType'))} {table} to schema {node.get('newschema')}"
    elif kind == "SelectStmt" and "intoClause" not in node:
        return
    else:
        said = STATEMENTS.get(kind, f"is not known to only add: {kind.removesuffix('Stmt')}")
        yield said.format(table=table or "a table")


def _judge_change(table: str, command: Node) -> Iterator[str]:
    change, name = command["subtype"], command.get("name", "?")
    if change in HARMLESS_CHANGES:
        return
    if change == "AT_AddColumn":
        yield from _judge_column(table, command["def"]["ColumnDef"])
    elif change == "AT_ColumnDefault":
        if "def" not in command:
            yield f"drops the default of column {table}.{name}"
    elif change == "AT_AddConstraint":
        constraint = command["def"]["Constraint"]
        kind = constraint["contype"].removeprefix("CONSTR_").lower()
        yield (
            f"adds {kind} constraint {constraint.get('conname', '')} to table {table}: it may refuse what the "
            "running version writes"
        ).replace("  ", " ")
    else:
        said = CHANGES.get(change, "changes table {table} in a way that is not known to only add: " + change[3:])
        yield said.format(table=table, name=name)


def _judge_column(table: str, column: Node) -> Iterator[str]:
    """Find a new column without a default that must have a value: inserts of the running version fail."""
    kinds = {each["Constraint"]["contype"] for each in column.get("constraints", [])}
    types = {each["String"]["sval"] for each in column.get("typeName", {}).get("names", [])}
    for each in column.get("constraints", []):
        if each["Constraint"]["contype"] == "CONSTR_DEFAULT" and _is_null(each["Constraint"].get("raw_expr", {})):
            kinds.discard("CONSTR_DEFAULT")
    fills = kinds & {"CONSTR_DEFAULT", "CONSTR_IDENTITY", "CONSTR_GENERATED"} or types & {
        "serial",
        "bigserial",
        "smallserial",
    }
    if kinds & {"CONSTR_NOTNULL", "CONSTR_PRIMARY"} and not fills:
        yield f"adds column {table}.{column['colname']} without a default"
    elif "CONSTR_CHECK" in kinds or ("CONSTR_UNIQUE" in kinds and fills):
        yield f"adds column {table}.{column['colname']} with a constraint that inserts without it may break"


def _is_null(expression: Node) -> bool:
    if "TypeCast" in expression:
        return _is_null(expression["TypeCast"].get("arg", {}))
    return bool(expression.get("A_Const", {}).get("isnull"))


def _name(relation: Node) -> str:
    """Return `schema.table`, or `table`."""
    relation = relation.get("RangeVar", relation)
    return ".".join(part for part in (relation.get("schemaname"), relation.get("relname")) if part)


def _joined(names: Any) -> str:
    if isinstance(names, Mapping):
        names = names.get("List", {}).get("items", [names])
    return ".".join(each["String"]["sval"] for each in names if isinstance(each, Mapping) and "String" in each)


def _dropped(node: Node) -> Iterator[str]:
    for each in node.get("objects", []):
        yield _joined(each) or _joined(each.get("TypeName", {}).get("names", [])) or "?"


def _kind(kind: object) -> str:
    text = str(kind)
    return KINDS.get(text, text.removeprefix("OBJECT_").lower())


def _nodes(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield key, each
            yield from _nodes(each)
    elif isinstance(value, list):
        for each in value:
            yield from _nodes(each)


def _changes_in(node: Node) -> bool:
    """Whether a statement contains others that change rows."""
    return any(name in ("UpdateStmt", "DeleteStmt", "MergeStmt", "InsertStmt") for name, _ in _nodes(node))


def _calls_in(node: Node) -> frozenset[str]:
    """Return the called functions that can change something."""
    called = {_joined(each.get("funcname", [])) for name, each in _nodes(node) if name == "FuncCall"}
    return frozenset(name for name in called if name.removeprefix("pg_catalog.") not in HARMLESS_FUNCTIONS)


def _locks(sql: str) -> Iterator[str]:
    program = Path(sys.executable).parent / "squawk"
    try:
        finished = subprocess.run(
            [program, *SQUAWK_OPTIONS],
            input=sql,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=CHILD_ENVIRONMENT,
        )
        found = json.loads(finished.stdout or "[]")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise AlvaError(
            f"cannot judge the locks of a migration: {type(error).__name__}: {error}",
            next_step="rm -rf .venv and run the same command again: it installs squawk",
        ) from error
    for each in found:
        if each.get("rule_name") in LOCK_RULES:
            line = sql.splitlines()[each["line"]].strip() if each.get("line", 0) < len(sql.splitlines()) else ""
            yield f"{LOCK_RULES[each['rule_name']]}: {line[:100]}"
