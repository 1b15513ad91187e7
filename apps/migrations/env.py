"""Alembic's entry point. It runs the revisions on the connection from `history`."""

from __future__ import annotations

from typing import Any

from alembic import context


def _announce(*, ctx: Any, step: Any, heads: Any, run_args: Any) -> None:  # noqa: ARG001 - Alembic's signature
    direction = "applied" if step.is_upgrade else "took back"
    say(f"{direction} {step.up_revision_id}: {(step.up_revision.doc or '').strip()}")


say = context.config.attributes["say"]
context.configure(
    connection=context.config.attributes["connection"],
    transaction_per_migration=True,
    on_version_apply=_announce,  # type: ignore[arg-type] # its stub has them positional; it passes keywords
)
with context.begin_transaction():
    context.run_migrations()
