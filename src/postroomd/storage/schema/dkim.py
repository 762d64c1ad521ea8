"""Rotations of domains' DKIM keys."""

from sqlalchemy import Column, ForeignKey, Table, Text

from postroomd.storage.column_types import Instant
from postroomd.storage.drivers.types import ID, partial_index
from postroomd.storage.schema.columns import identifier, metadata
from postroomd.storage.schema.domains import domains

# Rotations in progress, invisible to the tenants' role: the key that does not sign, which is the next one until
# `switched_at`, and then the previous one. The key that signs is in domains.
dkim_rotations = Table(
    "dkim_rotations",
    metadata,
    Column("domain_id", ID, ForeignKey(domains.c.id, ondelete="CASCADE"), primary_key=True),
    identifier("organization_id"),
    Column("selector", Text, nullable=False),
    Column("private_key", Text, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("switched_at", Instant),
    Column("retires_at", Instant),
    Column("key_id", Text),  # the key that encrypts private_key; NULL: it is not encrypted
)
partial_index(
    "ix_dkim_rotations_retires_at", dkim_rotations.c.retires_at, where=dkim_rotations.c.retires_at.is_not(None)
)
