"""Add the ids of the keys that encrypt private DKIM keys."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Add the columns, empty: no private key is encrypted until `postroom secrets rotate`."""
    op.add_column("domains", sa.Column("dkim_key_id", sa.Text()))
    op.add_column("dkim_rotations", sa.Column("key_id", sa.Text()))
