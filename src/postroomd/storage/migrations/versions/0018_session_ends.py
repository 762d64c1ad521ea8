"""Add the requests to end sessions on the mail server."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0018"
down_revision = "0017"

ID = sa.String(36).with_variant(UUID(as_uuid=False), "postgresql")
OCTETS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

OWN = "organization_id = NULLIF(current_setting('postroom.organization_id', true), '')::uuid"


def upgrade() -> None:
    """Create the table; on PostgreSQL, tenants reach their own rows."""
    op.create_table(
        "session_ends",
        sa.Column("id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("login_mask", OCTETS, nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("carried_out", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("claim", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session_ends")),
    )
    op.create_index("ix_session_ends_due_at", "session_ends", ["due_at"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON session_ends TO postroom_tenant")
        op.execute("ALTER TABLE session_ends ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON session_ends TO postroom_tenant USING ({OWN})")
