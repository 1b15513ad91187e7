"""Records the SQL statements of a release, so that they can be run against a later schema.

A service started by `command` records each of its statements with parameters and rows; `write` stores them, `replay`
runs them again. Generated ids and times differ at each replay: ids are mapped from the rows in which they first occur,
and times are shifted by the elapsed time.
"""

from __future__ import annotations

import base64
import functools
import importlib
import inspect
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID

import psycopg
from psycopg.types.json import Json, Jsonb

RUN = """
import runpy, sys
from pathlib import Path
from tests.apps.migrations import recording
_, notes, module, *sys.argv[1:] = sys.argv
recording.note(Path(notes), package=module.partition(".")[0])
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Statement:
    """A recorded statement and its result."""

    at: datetime
    sql: str
    parameters: Any
    """A mapping, or a list of them for a statement with several sets of parameters."""
    rows: list[list[Any]] | None
    """None if the statement returns no rows."""


@dataclass
class Replay:
    """The result of a replay. `problems` has one line for each difference."""

    problems: list[str] = field(default_factory=list)
    _now_there: dict[Any, Any] = field(default_factory=dict)
    """Recorded id -> id in the replay."""

    def run(self, connection: psycopg.Connection[Any], statement: Statement, passed: Any) -> None:
        """Run one statement."""
        if isinstance(statement.parameters, list):
            for each in statement.parameters:
                self.run(connection, Statement(statement.at, statement.sql, each, None), passed)
            return
        parameters = {name: self._now(value, passed) for name, value in statement.parameters.items()}
        where = " ".join(statement.sql.split())[:160]
        try:
            cursor = connection.execute(statement.sql, parameters)
            rows = cursor.fetchall() if cursor.description else None
        except psycopg.Error as error:
            self.problems.append(f"{where}: {str(error).splitlines()[0]}")
            return
        if statement.rows is None:
            return
        if rows is None or len(rows) != len(statement.rows):
            self.problems.append(f"{where}: {len(rows or [])} rows, {len(statement.rows)} before")
            return
        for before, after in zip(statement.rows, rows, strict=True):
            for was, now in zip(before, after, strict=False):
                if was is not None and now is not None and type(was) is not type(now):
                    self.problems.append(f"{where}: {type(now).__name__}, {type(was).__name__} before")
                if isinstance(was, UUID):
                    self._now_there.setdefault(was, now)

    def _now(self, value: Any, passed: Any) -> Any:
        if isinstance(value, datetime):
            return value + passed
        if isinstance(value, list):
            return [self._now(each, passed) for each in value]
        try:
            return self._now_there.get(value, value)
        except TypeError:
            return value


def replay(connection: psycopg.Connection[Any], statements: Sequence[Statement]) -> list[str]:
    """Run all statements in their order against an empty database, and collect the differences."""
    asking = Replay()
    passed = datetime.now(UTC) - statements[0].at
    for statement in statements:
        asking.run(connection, statement, passed)
    return asking.problems


# Recording, in a service's process


def note(file: Path, package: str) -> None:
    """Record, one line each, the statements of this process and the functions of its repository that run them."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    out = file.open("a", buffering=1)

    @event.listens_for(Engine, "after_cursor_execute")
    def note_statement(_connection: Any, cursor: Any, sql: str, parameters: Any, _context: Any, _many: bool) -> None:
        # The cursor of the asynchronous driver has read all rows already and stores them.
        rows = [list(row) for row in cursor._rows] if cursor.description else None
        line = {"at": datetime.now(UTC), "sql": sql, "parameters": parameters, "rows": rows}
        out.write(json.dumps(_plain(line)) + "\n")

    repository = importlib.import_module(f"{package}.repository")
    for name in functions_of(package):
        setattr(repository, name.rpartition(".")[2], _noted(name, vars(repository)[name.rpartition(".")[2]], out))


def functions_of(package: str) -> list[str]:
    """Return the functions of a service that query the database, such as `auth.find_user`."""
    repository = vars(importlib.import_module(f"{package}.repository"))
    return [
        f"{package}.{name}"
        for name, value in repository.items()
        if inspect.iscoroutinefunction(value) and value.__module__ == f"{package}.repository"
    ]


def _noted(name: str, function: Any, out: TextIO) -> Any:
    @functools.wraps(function)
    async def call(*arguments: Any, **options: Any) -> Any:
        out.write(json.dumps({"called": name}) + "\n")
        return await function(*arguments, **options)

    return call


# On disk


def read_notes(file: Path) -> tuple[list[Statement], set[str]]:
    """Return the recorded statements and called functions of a process."""
    lines = [_rich(json.loads(line)) for line in file.read_text().splitlines()]
    called = {line["called"] for line in lines if "called" in line}
    return [Statement(**line) for line in lines if "called" not in line], called


def shorten(statements: Sequence[Statement]) -> list[Statement]:
    """Return the statements in their order, without the third and later repetitions of a query that changes nothing."""
    kept, looks = [], Counter[str]()
    for statement in sorted(statements, key=lambda one: one.at):
        if statement.sql.startswith("SELECT") and "FOR UPDATE" not in statement.sql:
            looks[statement.sql] += 1
        if looks[statement.sql] <= 2:
            kept.append(statement)
    return kept


def read(file: Path) -> list[Statement]:
    """Return the statements of a file in their order."""
    recorded = json.loads(file.read_text())
    return [
        Statement(datetime.fromisoformat(at), recorded["sql"][number], _rich(parameters), _rich(rows))
        for at, number, parameters, rows in recorded["asked"]
    ]


def write(file: Path, statements: Sequence[Statement]) -> None:
    """Write the statements to a file: each text once, then each run with its parameters and rows."""
    sql = list(dict.fromkeys(statement.sql for statement in statements))
    asked = [
        json.dumps([one.at.isoformat(), sql.index(one.sql), _plain(one.parameters), _plain(one.rows)])
        for one in statements
    ]
    lines = ",\n  ".join(asked)
    file.write_text(f'{{"sql": {json.dumps(sql, indent=1)},\n "asked": [\n  {lines}\n ]}}\n')


def command(file: Path, module: str) -> list[str]:
    """Return the command that starts `python -m module` and records its statements in a file."""
    return [sys.executable, "-c", RUN, str(file), module]


def _plain(value: Any) -> Any:
    match value:
        case Jsonb() | Json():
            return {"$json": value.obj}
        case datetime():
            return {"$time": value.isoformat()}
        case timedelta():
            return {"$seconds": value.total_seconds()}
        case UUID():
            return {"$id": str(value)}
        case psycopg.Binary():
            return _plain(value.obj)
        case bytes() | memoryview():
            return {"$bytes": base64.b64encode(bytes(value)).decode()}
        case Mapping():
            # A JSON value of a column is a mapping too, without the recording's keys.
            return {str(name): _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"cannot write down a {type(value).__name__}")


def _rich(value: Any) -> Any:
    if isinstance(value, list):
        return [_rich(each) for each in value]
    if not isinstance(value, dict):
        return value
    match list(value.items()):
        case [("$json", inner)]:
            return Jsonb(inner)
        case [("$time", text)]:
            return datetime.fromisoformat(text)
        case [("$seconds", seconds)]:
            return timedelta(seconds=seconds)
        case [("$id", text)]:
            return UUID(text)
        case [("$bytes", text)]:
            return base64.b64decode(text)
    return {name: _rich(each) for name, each in value.items()}


def questions(statements: Sequence[Statement]) -> set[str]:
    """The texts of the statements, without parameters."""
    return {" ".join(statement.sql.split()) for statement in statements}
