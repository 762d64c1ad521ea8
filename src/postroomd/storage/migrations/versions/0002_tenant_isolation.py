"""Add revisions, responses by idempotency key, and row-level security on PostgreSQL."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0002"
down_revision = "0001"

ID = sa.String(36).with_variant(UUID(as_uuid=False), "postgresql")
OCTETS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

TENANT_TABLES = ("projects", "domains", "domain_records", "mailboxes", "aliases", "addresses", "idempotency_keys")

# Roles are shared by the databases of a server: another one may have created it already.
CREATE_ROLE = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'postroom_tenant') THEN
    CREATE ROLE postroom_tenant NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

# A member that did not create the role, but was granted it by an administrator, may not grant it, not even to itself.
JOIN_ROLE = """
DO $$ BEGIN
  GRANT postroom_tenant TO CURRENT_USER;
EXCEPTION WHEN insufficient_privilege THEN
  IF NOT pg_has_role(current_user, 'postroom_tenant', 'MEMBER') THEN RAISE; END IF;
END $$
"""


def upgrade() -> None:
    """Create the tables, and isolate tenants."""
    for table in ("domains", "mailboxes", "aliases"):
        op.add_column(table, sa.Column("revision", sa.Integer(), nullable=False, server_default="1"))
    op.create_table(
        "idempotency_keys",
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_scope", sa.String(36), nullable=False),
        sa.Column("key", OCTETS, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "project_scope", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_expires_at"), "idempotency_keys", ["expires_at"])
    if op.get_bind().dialect.name == "postgresql":
        _isolate_tenants()


def _isolate_tenants() -> None:
    op.execute(CREATE_ROLE)
    op.execute(JOIN_ROLE)
    op.execute("DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO postroom_tenant', current_schema()); END $$")
    for table in TENANT_TABLES:
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO postroom_tenant")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON {table} TO postroom_tenant"
            " USING (organization_id = NULLIF(current_setting('postroom.organization_id', true), '')::uuid)"
        )
