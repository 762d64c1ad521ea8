"""What outlives domains and mailboxes, without personal data, and for how long."""

from sqlalchemy import Column, Index, Integer, LargeBinary, Table, Text

from postroomd.domain.events import DomainEvent, MailboxEvent
from postroomd.domain.model import DomainStatus, MailboxStatus
from postroomd.storage.column_types import Instant, Named
from postroomd.storage.drivers.types import ID, partial_index
from postroomd.storage.schema.columns import identifier, metadata, owner
from postroomd.storage.schema.payments import OPEN_PAYMENT, payments
from postroomd.storage.schema.provisions import PENDING_PROVISION, provisions

transitions = Table(
    "transitions",
    metadata,
    Column("mailbox_id", ID, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    *owner(),
    identifier("domain_id"),
    Column("from_status", Named(MailboxStatus)),
    Column("to_status", Named(MailboxStatus)),
    Column("at", Instant, nullable=False),
    Column("cause", Named(MailboxEvent), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text),  # of the operator's lock
)

domain_transitions = Table(
    "domain_transitions",
    metadata,
    Column("domain_id", ID, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    *owner(),
    Column("name_hash", LargeBinary(32), nullable=False),  # HMAC-SHA-256 of the name, by the organization's id
    Column("from_status", Named(DomainStatus)),
    Column("to_status", Named(DomainStatus)),
    Column("at", Instant, nullable=False),
    Column("cause", Named(DomainEvent), nullable=False),
    Column("actor", Text, nullable=False),
    Index("ix_domain_transitions_organization_id_name_hash", "organization_id", "name_hash"),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("mailbox_id", ID, primary_key=True),
    *owner(),
    identifier("domain_id"),
    Column("address_hash", LargeBinary(32), nullable=False),  # HMAC-SHA-256 of the address, by the organization's id
    Column("purged_at", Instant, nullable=False),
    Column("cause", Named(MailboxEvent), nullable=False),
    Index("ix_tombstones_organization_id_address_hash", "organization_id", "address_hash"),
)

HISTORY = (
    (transitions, transitions.c.at, ()),
    (domain_transitions, domain_transitions.c.at, ()),
    (tombstones, tombstones.c.purged_at, ()),
    (payments, payments.c.settled_at, (~OPEN_PAYMENT,)),
    (provisions, provisions.c.settled_at, (~PENDING_PROVISION,)),
)
"""Tables whose rows are removed after the retention of history, the instant that it counts from, and further conditions
of a row that can be removed."""

HISTORY_INDEXES = (
    Index("ix_transitions_at", transitions.c.at),
    Index("ix_domain_transitions_at", domain_transitions.c.at),
    Index("ix_tombstones_purged_at", tombstones.c.purged_at),
    partial_index("ix_payments_settled_at", payments.c.settled_at, where=payments.c.settled_at.is_not(None)),
    partial_index("ix_provisions_settled_at", provisions.c.settled_at, where=provisions.c.settled_at.is_not(None)),
)
"""Indexes that serve the removal. Migrations build them afterwards: writers do not wait."""
