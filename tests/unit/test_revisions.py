"""Contractions are found in a revision's SQL, from a file or rendered by Alembic."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from alva.checks import revisions as revisions_module
from alva.checks.revisions import Revision, pending, read_revisions
from alva.errors import AlvaError

PROJECT = Path(__file__).resolve().parents[2]


def write(folder: Path, revision: str, down: str | None, upgrade: str, downgrade: str = "pass") -> None:
    (folder / f"{revision}_x.py").write_text(
        f'"""step {revision}"""\nimport sqlalchemy as sa\nfrom alembic import op\n'
        f"revision = {revision!r}\ndown_revision: str | None = {down!r}\n"
        f"def upgrade() -> None:\n    {upgrade}\ndef downgrade() -> None:\n    {downgrade}\n"
    )


CASES: dict[str, str | None] = {
    'op.drop_column("users", "name")': "drops column users.name",
    'op.drop_table("plans")': "drops table plans",
    'op.rename_table("plans", "drafts")': "renames table plans",
    'op.alter_column("users", "name", new_column_name="title")': "renames column users.name",
    'op.alter_column("users", "age", type_=sa.BigInteger())': "changes the type of column users.age",
    'op.alter_column("users", "age", nullable=False)': "requires a value in column users.age",
    'op.alter_column("users", "age", server_default=None)': "drops the default of column users.age",
    'op.add_column("users", sa.Column("age", sa.Integer, nullable=False))': "adds column users.age without",
    'op.create_check_constraint("k", "users", "age > 0")': "adds check constraint k to table users",
    'op.create_unique_constraint("k", "users", ["name"])': "adds unique constraint k to table users",
    'op.create_foreign_key("k", "users", "plans", ["a"], ["b"])': "adds foreign constraint k to table users",
    'op.execute("ALTER TABLE users DROP name")': "drops column users.name",
    'op.execute(sa.text("alter table a rename to b"))': "renames table a",
    'what = "DROP name"; op.execute(f"ALTER TABLE users {what}")': "drops column users.name",
    'op.execute(sa.table("t", sa.column("s")).delete().where(sa.column("s") == "x"))': "deletes rows of t",
    'from alembic.op import drop_table; drop_table("plans")': "drops table plans",
    "raise SystemExit(3)": "SystemExit: 3",
    "import psycopg2.extras": "imports psycopg2.extras",
    "op.execute(make_sql())": "NameError",
    # Python code that could run other SQL in the database than the judged SQL.
    'op.get_bind().exec_driver_sql("DROP TABLE plans")': "it may run other SQL: line 7 uses get_bind",
    'op.get_context().connection.execute(sa.text("DROP TABLE plans"))': "line 7 uses get_context",
    'op.get_context().impl.drop_table("plans")': "line 7 uses get_context",
    'b = op.get_bind; b().exec_driver_sql("DROP TABLE plans")': "line 7 uses get_bind",
    "from alembic.op import get_bind as give; give()": "line 7 imports alembic.op.get_bind",
    "from alembic.op import *; get_bind()": "line 7 uses get_bind",
    'with op.batch_alter_table("t") as batch: batch.get_bind()': "line 7 uses get_bind",
    'op.drop_table("plans") if not context.is_offline_mode() else None': "line 7 uses is_offline_mode",
    "from alembic import context": "line 7 imports alembic.context",
    'sa.create_engine("postgresql://").connect()': "line 7 uses create_engine",
    'getattr(op, "get_" + "bind")()': "line 7 uses getattr",
    'op.__getattribute__("get_bind")()': "line 7 uses __getattribute__",
    'vars(op)["drop_table"]("plans")': "line 7 uses vars",
    "import os": "line 7 imports os",
    "from os import environ": "line 7 imports os",
    'sa.util.compat.sys.modules["os"].environ': "line 7 uses environ, line 7 uses sys",
    "from helpers import tidy; tidy()": "line 7 imports helpers",
    "from . import helpers": "line 7 imports .",
    "import subprocess as s, uuid": "line 7 imports subprocess",
    'op.execute(open("/tmp/x.sql").read())': "line 7 uses open",
    'exec("import os")': "line 7 uses exec",
    "import datetime as d; op.execute(f'COMMENT ON TABLE t IS $${d.date.today()}$$')": "reads the time (today)",
    """
    try: op.execute("SELECT 1")
    except Exception: op.drop_table("plans")""": "line 8 handles an error",
    'op.create_table("a", sa.Column("b", sa.Integer, nullable=False))': None,
    'op.add_column("users", sa.Column("age", sa.Integer))': None,
    'op.add_column("users", sa.Column("age", sa.Integer, nullable=False, server_default="0"))': None,
    'op.add_column("users", sa.Column("n", sa.BigInteger, sa.Identity(), nullable=False))': None,
    'op.execute("CREATE SCHEMA api")': None,
    'op.create_index("i", "users", ["name"])': None,
    'op.alter_column("users", "age", nullable=True)': None,
    'op.drop_table_comment("users")': None,
    'op.bulk_insert(sa.table("t", sa.column("s", sa.String)), [{"s": "x"}])': None,
    "print('standard output is not the answer')": None,
    "op.add_column('t', sa.Column('c', sa.DateTime, nullable=False, server_default=sa.func.now()))": None,
    "from sqlalchemy.dialects import postgresql as p; import uuid; op.add_column('t', sa.Column('c', p.UUID))": None,
    """
    with op.get_context().autocommit_block():
        op.create_index("i", "users", ["name"], postgresql_concurrently=True)""": None,
    """
    for table in ("a", "b"):
        op.add_column(table, sa.Column("c", sa.Integer))""": None,
}
"""The operations of a revision -> the contraction as text; None if it only adds."""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Revision]:
    """Every case as a revision of one history."""
    folder = tmp_path_factory.mktemp("project") / "migrations" / "versions"
    folder.mkdir(parents=True)
    before = None
    for number, upgrade in enumerate(CASES):
        write(folder, f"{number:03}", before, upgrade)
        before = f"{number:03}"
    return dict(zip(CASES, read_revisions(folder), strict=True))


@pytest.mark.parametrize("upgrade", [upgrade for upgrade, said in CASES.items() if said is not None])
def test_contraction_is_named(judged: dict[str, Revision], upgrade: str) -> None:
    (contraction,) = judged[upgrade].contractions
    assert str(CASES[upgrade]) in contraction


@pytest.mark.parametrize("upgrade", [upgrade for upgrade, said in CASES.items() if said is None])
def test_additive_revision_is_no_contraction(judged: dict[str, Revision], upgrade: str) -> None:
    assert judged[upgrade].contractions == ()


def test_index_that_blocks_writes_is_named(judged: dict[str, Revision]) -> None:
    (lock,) = judged['op.create_index("i", "users", ["name"])'].locks
    assert "writes wait while it builds the index" in lock


def test_judgements_are_cached_until_a_revision_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = tmp_path / "migrations" / "versions", tmp_path / "cache"
    folder.mkdir(parents=True)
    write(folder, "1", None, 'op.drop_table("a")')
    first = read_revisions(folder, cache)
    render = revisions_module._render
    monkeypatch.setattr(revisions_module, "_render", lambda _: pytest.fail("rendered again"))
    assert read_revisions(folder, cache) == first
    monkeypatch.setattr(revisions_module, "_render", render)
    write(folder, "1", None, 'op.drop_table("b")')  # in the same second, and of the same size
    assert read_revisions(folder, cache)[0].contractions == ("drops table b",)
    assert not list(folder.rglob("*.pyc"))


def test_judging_programs_do_not_get_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("DATABASE_URL", "postgresql://canary@localhost/x")
    monkeypatch.setenv("PYTHONPATH", "canary")
    environments: list[dict[str, str]] = []
    run = subprocess.run

    def recorded(*arguments: Any, **options: Any) -> Any:
        environments.append(options["env"])
        return run(*arguments, **options)

    monkeypatch.setattr(subprocess, "run", recorded)
    # Without the check of the source, run the revision and see its environment.
    monkeypatch.setattr(revisions_module, "unknown_before_it_runs", lambda _: ())
    write(tmp_path, "1", None, "import os; raise ValueError(sorted(os.environ))")
    write(tmp_path, "2", "1", 'op.create_index("i", "users", ["name"])')
    seen, index = read_revisions(tmp_path)
    (said,) = seen.contractions
    assert set(json.loads(said.partition("ValueError: ")[2].replace("'", '"'))) <= {"PATH", "LANG", "LC_CTYPE"}
    assert index.locks
    assert len(environments) >= 2  # Alembic's and squawk's
    assert all(set(environment) == {"PATH", "LANG"} for environment in environments)


def test_revision_that_may_run_other_sql_is_not_run(tmp_path: Path) -> None:
    write(tmp_path, "1", None, f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    assert "imports pathlib" in read_revisions(tmp_path)[0].contractions[0]
    assert not (tmp_path / "ran").exists()


def test_downgrade_is_not_restricted_like_upgrade(tmp_path: Path) -> None:
    write(tmp_path, "1", None, 'op.create_table("a")', downgrade='op.get_bind(); op.drop_table("a")')
    assert read_revisions(tmp_path)[0].contractions == ()


def test_downgrade_that_upgrade_calls_is_judged(tmp_path: Path) -> None:
    write(tmp_path, "1", None, "downgrade()", downgrade='op.get_bind().exec_driver_sql("DROP TABLE a")')
    assert "uses get_bind" in read_revisions(tmp_path)[0].contractions[0]


def test_history_is_read_in_the_order_of_revisions_not_of_files(tmp_path: Path) -> None:
    write(tmp_path, "a", "c", "pass")
    write(tmp_path, "c", "b", "pass")
    write(tmp_path, "b", None, "pass")
    history = read_revisions(tmp_path)
    assert [r.revision for r in history] == ["b", "c", "a"]
    assert [r.revision for r in pending(history, "c")] == ["a"]
    assert pending(history, "a") == ()
    assert pending(history, None) == history


def test_two_revisions_after_one_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", None, "pass")
    write(tmp_path, "b", "a", "pass")
    write(tmp_path, "c", "a", "pass")
    with pytest.raises(AlvaError, match="both follow a"):
        read_revisions(tmp_path)


def test_history_of_this_repository_only_adds() -> None:
    history = read_revisions(PROJECT / "apps" / "migrations" / "versions")
    assert len(history) >= 2
    assert [r.revision for r in history if r.contractions] == []


def test_drizzles_files_are_judged_in_the_order_of_its_journal(tmp_path: Path) -> None:
    journal = tmp_path / "meta" / "_journal.json"
    journal.parent.mkdir()
    entries = [{"idx": 1, "when": 1, "tag": "0000_z"}, {"idx": 0, "when": 2, "tag": "0001_a_b"}]
    journal.write_text(json.dumps({"entries": entries}))
    (tmp_path / "0000_z.sql").write_text('CREATE TABLE "u" ("id" serial);\n--> statement-breakpoint\nCREATE SCHEMA s;')
    (tmp_path / "0001_a_b.sql").write_text('ALTER TABLE "u" DROP COLUMN "id"; CREATE INDEX i ON "u" ("id");')
    first, second = read_revisions(tmp_path)
    assert (first.revision, first.down_revision, first.contractions, first.locks) == ("0000_z", None, (), ())
    assert (second.down_revision, second.title, second.contractions) == ("0000_z", "a b", ("drops column u.id",))
    assert "writes wait" in second.locks[0]
    assert pending((first, second), "0000_z") == (second,)
    (tmp_path / "0000_z.sql").unlink()
    with pytest.raises(AlvaError, match="cannot read the migration 0000_z"):
        read_revisions(tmp_path)


@pytest.mark.parametrize("journal", ["", "{}", '{"entries": [{"idx": "x", "tag": "a"}]}', "[]", '{"entries": [1]}'])
def test_journal_that_is_not_drizzles_is_refused(tmp_path: Path, journal: str) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "_journal.json").write_text(journal)
    with pytest.raises(AlvaError, match="the journal is not one of Drizzle's"):
        read_revisions(tmp_path)


@pytest.mark.parametrize("when", [1, 2])
def test_drizzle_migration_that_drizzle_would_skip_is_refused(tmp_path: Path, when: int) -> None:
    """Two branches each generated one, and the older one was merged last."""
    (tmp_path / "meta").mkdir()
    entries = [{"idx": 0, "when": 2, "tag": "a"}, {"idx": 1, "when": when, "tag": "b"}]
    (tmp_path / "meta" / "_journal.json").write_text(json.dumps({"entries": entries}))
    with pytest.raises(AlvaError, match="Drizzle skips b without an error where a has run") as refused:
        read_revisions(tmp_path)
    assert f"its `when` is {when}, that of a is 2" in str(refused.value)


def test_two_drizzle_migrations_in_one_place_are_refused(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "_journal.json").write_text('{"entries": [{"idx": 0, "tag": "a"}, {"idx": 0, "tag": "b"}]}')
    with pytest.raises(AlvaError, match="the same idx"):
        read_revisions(tmp_path)


def test_prismas_folders_are_judged_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, sql in (("20270102_drop", 'DROP TABLE "User";'), ("20270101_init", 'CREATE TABLE "User" ("id" INT);')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "migration.sql").write_text(f"-- Prisma\n{sql}")
    first, second = read_revisions(tmp_path)
    assert (first.revision, first.contractions) == ("20270101_init", ())
    assert second.contractions == ("drops table User",)


def test_plain_sql_files_are_judged_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "2_less.up.sql").write_text("DROP TABLE t")
    (tmp_path / "2_less.down.sql").write_text("no SQL")
    (tmp_path / "1_more.up.sql").write_text("CREATE TABLE t ()")
    first, second = read_revisions(tmp_path, tmp_path / "cache")
    assert (first.contractions, second.contractions) == ((), ("drops table t",))
    (tmp_path / "2_less.up.sql").write_text("DROP VIEW t")
    assert read_revisions(tmp_path, tmp_path / "cache")[1].contractions == ("drops view t",)
