"""users, sessions, mail links and the audit log"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, UUID

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NOW = sa.text("now()")
NEW_ID = sa.text("gen_random_uuid()")
WHEN = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.execute("CREATE SCHEMA auth")
    op.create_table(
        "users",
        sa.Column("id", UUID(as_uuid=True), primary_key=True, server_default=NEW_ID),
        sa.Column("email", sa.Text, nullable=False, unique=True),
        sa.Column("password_hash", sa.Text),
        sa.Column("role", sa.Text, nullable=False, server_default="customer"),
        sa.Column("verified_at", WHEN),
        sa.Column("created_at", WHEN, nullable=False, server_default=NOW),
        sa.CheckConstraint("email = lower(email)", name="users_email_is_lower_case"),
        sa.CheckConstraint("role IN ('customer', 'admin')", name="users_role_is_known"),
        schema="auth",
    )
    op.create_table(
        "sessions",
        sa.Column("id", UUID(as_uuid=True), primary_key=True, server_default=NEW_ID),
        sa.Column(
            "user_id",
            UUID(as_uuid=True),
            sa.ForeignKey("auth.users.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("created_at", WHEN, nullable=False, server_default=NOW),
        sa.Column("expires_at", WHEN, nullable=False),
        sa.Column("revoked_at", WHEN),
        sa.Column("client", sa.Text, nullable=False, server_default=""),
        schema="auth",
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.LargeBinary, primary_key=True),
        sa.Column(
            "session_id",
            UUID(as_uuid=True),
            sa.ForeignKey("auth.sessions.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("created_at", WHEN, nullable=False, server_default=NOW),
        sa.Column("used_at", WHEN),
        schema="auth",
    )
    op.create_table(
        "links",
        sa.Column("id", UUID(as_uuid=True), primary_key=True, server_default=NEW_ID),
        sa.Column("email", sa.Text, nullable=False, index=True),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False, server_default="customer"),
        sa.Column("password_hash", sa.Text),
        sa.Column("browser_hash", sa.LargeBinary),
        sa.Column("next", sa.Text),
        sa.Column("created_at", WHEN, nullable=False, server_default=NOW),
        sa.Column("expires_at", WHEN, nullable=False),
        sa.Column("used_at", WHEN),
        sa.CheckConstraint("purpose IN ('registration', 'sign-in', 'invitation')", name="links_purpose_is_known"),
        schema="auth",
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("at", WHEN, nullable=False, server_default=NOW),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False, server_default=""),
        sa.Column("client", sa.Text, nullable=False, server_default=""),
        sa.Column("details", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        schema="auth",
    )


def downgrade() -> None:
    for table in ("audit", "links", "refresh_tokens", "sessions", "users"):
        op.drop_table(table, schema="auth")
    op.execute("DROP SCHEMA auth")
