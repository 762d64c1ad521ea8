"""Add the workers' heartbeats and the operator's acceptances, by which leaps of the clock are found and resolved."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "worker_clocks",
        sa.Column("time_scale", sa.String(length=80), nullable=False),
        sa.Column("trusted_at", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.BigInteger(), nullable=True),
        sa.Column("leapt_to", sa.BigInteger(), nullable=True),
        sa.Column("acceptance", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("time_scale", name=op.f("pk_worker_clocks")),
    )
    op.create_table(
        "clock_acceptances",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.Column("database_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clock_acceptances")),
    )
