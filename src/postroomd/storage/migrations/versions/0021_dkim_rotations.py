"""Add the rotations of DKIM keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0021"
down_revision = "0020"

ID = sa.String(36).with_variant(UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    """Create the table. It has private keys: PostgreSQL's role of tenants has no access to it."""
    op.create_table(
        "dkim_rotations",
        sa.Column("domain_id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("private_key", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("switched_at", sa.BigInteger()),
        sa.Column("retires_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.id"], name=op.f("fk_dkim_rotations_domain_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("domain_id", name=op.f("pk_dkim_rotations")),
    )
    condition = sa.text("retires_at IS NOT NULL")
    op.create_index(
        "ix_dkim_rotations_retires_at",
        "dkim_rotations",
        ["retires_at"],
        postgresql_where=condition,
        sqlite_where=condition,
    )
