"""Add the permission of an API key to create mailboxes with password hashes; no existing key has it."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the column."""
    op.add_column("api_keys", sa.Column("password_hashes", sa.Boolean(), nullable=False, server_default=sa.false()))
