"""What a revision takes away from the version that runs is found in its source, without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alva.checks.revisions import pending, read_revisions
from alva.errors import AlvaError

PROJECT = Path(__file__).resolve().parents[2]


def write(folder: Path, revision: str, down: str | None, upgrade: str, downgrade: str = "pass") -> None:
    (folder / f"{revision}_x.py").write_text(
        f'"""step {revision}"""\nimport sqlalchemy as sa\nfrom alembic import op\n'
        f"revision = {revision!r}\ndown_revision: str | None = {down!r}\n"
        f"def upgrade() -> None:\n    {upgrade}\ndef downgrade() -> None:\n    {downgrade}\n"
    )


def contractions(folder: Path, upgrade: str) -> tuple[str, ...]:
    write(folder, "1", None, upgrade)
    return read_revisions(folder)[0].contractions


@pytest.mark.parametrize(
    ("upgrade", "found"),
    [
        ('op.drop_column("users", "name")', "drops column users.name"),
        ('op.drop_table("plans")', "drops table plans"),
        ('op.rename_table("plans", "drafts")', "renames table plans"),
        ('op.alter_column("users", "name", new_column_name="title")', "renames column users.name"),
        ('op.alter_column("users", "age", type_=sa.BigInteger())', "changes the type of column users.age"),
        ('op.alter_column("users", "age", nullable=False)', "requires a value in column users.age"),
        ('op.add_column("users", sa.Column("age", sa.Integer, nullable=False))', "adds column users.age without"),
        ('op.execute("ALTER TABLE users DROP COLUMN name")', "runs DROP COLUMN in SQL"),
        ('op.execute(sa.text("alter table a rename to b"))', "runs rename to in SQL"),
        ("op.execute(make_sql())", "made only at run time"),
    ],
)
def test_what_is_taken_away_is_named(tmp_path: Path, upgrade: str, found: str) -> None:
    (contraction,) = contractions(tmp_path, upgrade)
    assert found in contraction


@pytest.mark.parametrize(
    "upgrade",
    [
        'op.create_table("a", sa.Column("b", sa.Integer, nullable=False))',
        'op.add_column("users", sa.Column("age", sa.Integer))',
        'op.add_column("users", sa.Column("age", sa.Integer, nullable=False, server_default="0"))',
        'op.execute("CREATE SCHEMA api")',
        'op.create_index("i", "users", ["name"])',
        'op.alter_column("users", "age", nullable=True)',
    ],
)
def test_what_only_adds_is_no_contraction(tmp_path: Path, upgrade: str) -> None:
    assert contractions(tmp_path, upgrade) == ()


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
