"""What a revision takes away from the version that runs is found in the SQL that Alembic renders for it."""

from __future__ import annotations

from pathlib import Path

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
    "from helpers import tidy; tidy()": "drops table tidied",
    'op.get_bind().exec_driver_sql("DROP TABLE plans")': "Alembic cannot render it",
    'op.get_bind().execute(sa.text("SELECT 1")).scalar()': "Alembic cannot render it",
    "raise SystemExit(3)": "SystemExit: 3",
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
}
"""What a revision does -> what it takes away, in words; None where it only adds."""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Revision]:
    """Every case as a revision of one history."""
    folder = tmp_path_factory.mktemp("project") / "migrations" / "versions"
    folder.mkdir(parents=True)
    (folder.parents[1] / "helpers.py").write_text("from alembic import op\ndef tidy(): op.drop_table('tidied')\n")
    before = None
    for number, upgrade in enumerate(CASES):
        write(folder, f"{number:03}", before, upgrade)
        before = f"{number:03}"
    return dict(zip(CASES, read_revisions(folder), strict=True))


@pytest.mark.parametrize("upgrade", [upgrade for upgrade, said in CASES.items() if said is not None])
def test_what_is_taken_away_is_named(judged: dict[str, Revision], upgrade: str) -> None:
    (contraction,) = judged[upgrade].contractions
    assert str(CASES[upgrade]) in contraction


@pytest.mark.parametrize("upgrade", [upgrade for upgrade, said in CASES.items() if said is None])
def test_what_only_adds_is_no_contraction(judged: dict[str, Revision], upgrade: str) -> None:
    assert judged[upgrade].contractions == ()


def test_index_that_stops_writes_is_named(judged: dict[str, Revision]) -> None:
    (lock,) = judged['op.create_index("i", "users", ["name"])'].locks
    assert "writes wait while it builds the index" in lock


def test_judgements_are_kept_until_a_revision_or_what_it_imports_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = tmp_path / "migrations" / "versions", tmp_path / "cache"
    folder.mkdir(parents=True)
    write(folder, "1", None, 'op.drop_table("a")')
    first = read_revisions(folder, cache)
    render = revisions_module._render
    monkeypatch.setattr(revisions_module, "_render", lambda _: pytest.fail("rendered again"))
    assert read_revisions(folder, cache) == first
    monkeypatch.setattr(revisions_module, "_render", render)
    write(folder, "1", None, 'op.drop_table("b")')
    assert read_revisions(folder, cache)[0].contractions == ("drops table b",)


def test_downgrade_may_drop_what_upgrade_made(tmp_path: Path) -> None:
    write(tmp_path, "1", None, 'op.create_table("a")', downgrade='op.drop_table("a")')
    assert read_revisions(tmp_path)[0].contractions == ()


def test_history_is_read_in_its_own_order_not_in_that_of_its_files(tmp_path: Path) -> None:
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
