"""Sessions on the mail server that have to end."""

from sqlalchemy import Boolean, Column, Index, Table, false

from postroomd.storage.column_types import Instant
from postroomd.storage.drivers.types import OCTETS
from postroomd.storage.schema.columns import identifier, lease, metadata

# Sessions on the mail server that have to end. Rows are short-lived: the worker removes them.
session_ends = Table(
    "session_ends",
    metadata,
    identifier(primary_key=True),
    identifier("organization_id"),
    Column("login_mask", OCTETS, nullable=False),
    # When a worker ends them: during a lease, when the lease ends.
    Column("due_at", Instant, nullable=False),
    Column("carried_out", Boolean, nullable=False, server_default=false()),  # once; it is done twice
    *lease(),
    Index("ix_session_ends_due_at", "due_at"),
)
