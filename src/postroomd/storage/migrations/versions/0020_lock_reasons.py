"""Record the reason of a lock in the history of its mailbox."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add the column, empty: the reasons of earlier locks are not known any more."""
    op.add_column("transitions", sa.Column("reason", sa.Text))
