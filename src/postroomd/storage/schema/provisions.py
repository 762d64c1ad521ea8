"""Provisions: they outlive what they refer to, and contain no personal data."""

from sqlalchemy import Column, Index, Integer, Table, Text

from postroomd.domain.provisions import ProvisionKind, ProvisionStatus
from postroomd.storage.column_types import Instant, Named
from postroomd.storage.drivers.types import ID, partial_index
from postroomd.storage.schema.columns import identifier, metadata, owner, rendered

provisions = Table(
    "provisions",
    metadata,
    identifier(primary_key=True),
    *owner(),
    identifier("domain_id"),
    Column("mailbox_id", ID),
    Column("alias_id", ID),
    Column("kind", Named(ProvisionKind), nullable=False),
    Column("status", Named(ProvisionStatus), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text),
    Column("requested_at", Instant, nullable=False),
    Column("next_attempt_at", Instant, nullable=False),
    Column("settled_at", Instant),
    Column("forwarding_id", ID),
)
PENDING_PROVISION = provisions.c.status == rendered(provisions.c.status, ProvisionStatus.PENDING)
"""Condition: the mail platform has not confirmed the provision."""

partial_index("ix_provisions_pending", provisions.c.next_attempt_at, provisions.c.id, where=PENDING_PROVISION)
Index("ix_provisions_mailbox_id", provisions.c.mailbox_id)
