"""Record when a domain's DNS records were looked up last, for the minimum interval between two validations."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the column, empty: the first validation after the upgrade does not wait."""
    op.add_column("domains", sa.Column("looked_up_at", sa.BigInteger))
