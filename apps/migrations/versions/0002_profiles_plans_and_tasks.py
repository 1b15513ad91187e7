"""profiles, plans and tasks"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NOW = sa.text("now()")
NEW_ID = sa.text("gen_random_uuid()")
WHEN = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.execute("CREATE SCHEMA api")
    op.create_table(
        "profiles",
        sa.Column("user_id", UUID(as_uuid=True), primary_key=True),
        sa.Column("business_name", sa.Text, nullable=False),
        sa.Column("industry", sa.Text, nullable=False),
        sa.Column("audience", sa.Text, nullable=False),
        sa.Column("goals", ARRAY(sa.Text), nullable=False),
        sa.Column("location", sa.Text, nullable=False, server_default=""),
        sa.Column("website", sa.Text, nullable=False, server_default=""),
        sa.Column("budget_per_month", sa.Integer),
        sa.Column("channels", ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'::text[]")),
        sa.Column("created_at", WHEN, nullable=False, server_default=NOW),
        sa.Column("updated_at", WHEN, nullable=False, server_default=NOW),
        schema="api",
    )
    op.create_table(
        "plans",
        sa.Column("id", UUID(as_uuid=True), primary_key=True, server_default=NEW_ID),
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("status", sa.Text, nullable=False, server_default="queued"),
        sa.Column("progress", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("step", sa.Text, nullable=False, server_default=""),
        sa.Column("problem", sa.Text, nullable=False, server_default=""),
        sa.Column("profile", JSONB, nullable=False),
        sa.Column("content", JSONB),
        sa.Column("created_at", WHEN, nullable=False, server_default=NOW),
        sa.Column("updated_at", WHEN, nullable=False, server_default=NOW),
        sa.Column("finished_at", WHEN),
        sa.UniqueConstraint("user_id", "idempotency_key", name="plans_idempotency_key"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'ready', 'failed', 'cancelled')", name="plans_status_is_known"
        ),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", name="plans_progress_is_percent"),
        sa.CheckConstraint("status <> 'ready' OR content IS NOT NULL", name="plans_ready_has_content"),
        schema="api",
    )
    op.create_index("plans_newest_first", "plans", ["user_id", sa.text("created_at DESC")], schema="api")
    op.create_index(
        "plans_one_in_the_making",
        "plans",
        ["user_id"],
        unique=True,
        schema="api",
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_table(
        "tasks",
        sa.Column("id", UUID(as_uuid=True), primary_key=True, server_default=NEW_ID),
        sa.Column("plan_id", UUID(as_uuid=True), sa.ForeignKey("api.plans.id", ondelete="CASCADE"), nullable=False),
        sa.Column("position", sa.SmallInteger, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False, server_default=""),
        sa.Column("effort", sa.Text, nullable=False),
        sa.Column("week", sa.SmallInteger, nullable=False),
        sa.Column("is_quick_win", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("status", sa.Text, nullable=False, server_default="todo"),
        sa.Column("updated_at", WHEN, nullable=False, server_default=NOW),
        sa.UniqueConstraint("plan_id", "position", name="tasks_position"),
        sa.CheckConstraint("status IN ('todo', 'doing', 'done')", name="tasks_status_is_known"),
        schema="api",
    )


def downgrade() -> None:
    for table in ("tasks", "plans", "profiles"):
        op.drop_table(table, schema="api")
    op.execute("DROP SCHEMA api")
