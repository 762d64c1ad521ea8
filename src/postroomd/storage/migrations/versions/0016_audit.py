"""Add the audit log: the committed changes of tenants and the operator."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0016"
down_revision = "0015"

ID = sa.String(36).with_variant(UUID(as_uuid=False), "postgresql")
OCTETS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

OWN = "organization_id = NULLIF(current_setting('postroom.organization_id', true), '')::uuid"


def upgrade() -> None:
    """Create the table. Changes from before the upgrade are in the history alone."""
    op.create_table(
        "audit_events",
        sa.Column("id", ID, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", OCTETS, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("organization_id", ID),
        sa.Column("project_id", ID),
        sa.Column("resource_type", sa.String(32), nullable=False),
        sa.Column("resource_id", OCTETS, nullable=False),
        sa.Column("resource_ids", sa.Text(), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("client_address", sa.String(45), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    op.create_index("ix_audit_events_at", "audit_events", ["at", "id"])
    for column in ("resource_id", "actor", "project_id", "organization_id"):
        op.create_index(f"ix_audit_events_{column}", "audit_events", [column, "at", "id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON audit_events TO postroom_tenant")
        op.execute("ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON audit_events TO postroom_tenant USING ({OWN})")
