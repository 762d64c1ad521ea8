"""Payments: they outlive the mailboxes that they refer to, and contain no personal data."""

from sqlalchemy import Column, Index, Table, Text, bindparam

from postroomd.domain.model import SubscriptionPeriod
from postroomd.domain.payments import OPEN_STATUSES, PaymentStatus
from postroomd.storage.column_types import Instant, Named
from postroomd.storage.drivers.types import partial_index
from postroomd.storage.schema.columns import identifier, metadata, owner

payments = Table(
    "payments",
    metadata,
    identifier(primary_key=True),
    *owner(),
    identifier("mailbox_id"),
    Column("period", Named(SubscriptionPeriod), nullable=False),
    Column("period_started_at", Instant),
    Column("requested_at", Instant, nullable=False),
    Column("overdue_at", Instant, nullable=False),
    Column("status", Named(PaymentStatus), nullable=False),
    Column("settled_at", Instant),
    Column("reason", Text),
)
OPEN_PAYMENT = payments.c.status.in_(bindparam("open", OPEN_STATUSES, expanding=True, literal_execute=True))
"""Condition: the payment can still be confirmed."""

partial_index("ix_payments_open", payments.c.requested_at, payments.c.id, where=OPEN_PAYMENT)
Index("ix_payments_mailbox_id", payments.c.mailbox_id)
