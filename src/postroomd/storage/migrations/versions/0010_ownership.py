"""Add the ownership of names, the history of domains, and the propagation of a domain's status to its mailboxes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0010"
down_revision = "0009"

ID = sa.String(36).with_variant(UUID(as_uuid=False), "postgresql")
NAMED = sa.String(32)
INSTANT = sa.BigInteger()


def upgrade() -> None:
    """Create the table and the columns. The history of existing domains begins with their next transition."""
    op.add_column("domains", sa.Column("cause", NAMED, nullable=False, server_default="create"))
    for name in ("token_absent_since", "token_checked_at", "released_at"):
        op.add_column("domains", sa.Column(name, INSTANT))
    op.add_column("domains", sa.Column("propagating", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("domains", sa.Column("propagated_created_at", INSTANT))
    op.add_column("domains", sa.Column("propagated_mailbox_id", ID))
    op.create_index("ix_domains_name", "domains", ["name", "id"])
    op.create_index(
        "ix_domains_propagating",
        "domains",
        ["propagating"],
        sqlite_where=sa.text("propagating = 1"),
        postgresql_where=sa.text("propagating = true"),
    )
    op.create_table(
        "domain_transitions",
        sa.Column("domain_id", ID, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("name_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("from_status", NAMED),
        sa.Column("to_status", NAMED),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("cause", NAMED, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("domain_id", "revision", name=op.f("pk_domain_transitions")),
    )
    op.create_index(
        "ix_domain_transitions_organization_id_name_hash", "domain_transitions", ["organization_id", "name_hash"]
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON domain_transitions TO postroom_tenant")
        op.execute("ALTER TABLE domain_transitions ENABLE ROW LEVEL SECURITY")
        op.execute(
            "CREATE POLICY tenant ON domain_transitions TO postroom_tenant"
            " USING (organization_id = NULLIF(current_setting('postroom.organization_id', true), '')::uuid)"
        )
