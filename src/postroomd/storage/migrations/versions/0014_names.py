"""Name organizations and API keys."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the columns. Existing organizations and keys have no name; PostgreSQL does not rewrite the tables."""
    for table in ("organizations", "api_keys"):
        op.add_column(table, sa.Column("name", sa.Text, nullable=False, server_default=sa.text("''")))
