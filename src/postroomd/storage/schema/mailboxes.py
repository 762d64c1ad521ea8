"""Mailboxes."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Table, Text, and_, false, text

from postroomd.domain.events import MailboxEvent, PaymentStanding, ProvisionStanding
from postroomd.domain.model import MailboxStatus, SubscriptionPeriod
from postroomd.storage.column_types import Instant, Named
from postroomd.storage.drivers.types import ID, OCTETS, partial_index
from postroomd.storage.schema.columns import identifier, lease, metadata, owner, rendered, revision, times
from postroomd.storage.schema.domains import domains

mailboxes = Table(
    "mailboxes",
    metadata,
    identifier(primary_key=True),
    *owner(),
    Column("domain_id", ID, ForeignKey(domains.c.id), nullable=False),
    Column("email", OCTETS, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("status", Named(MailboxStatus), nullable=False),
    Column("subscription_period", Named(SubscriptionPeriod)),
    Column("last_paid_period", Named(SubscriptionPeriod), nullable=False),
    Column("period_anchor_at", Instant, nullable=False),
    Column("subscription_period_started_at", Instant),
    Column("next_subscription_period", Named(SubscriptionPeriod), nullable=False),
    Column("next_subscription_period_starts_at", Instant),
    *times(),
    Column("deletion_scheduled_at", Instant),
    # When a worker handles the mailbox next: `domain.mailboxes.due_at`, or during a lease, when the lease ends.
    Column("due_at", Instant),
    revision(),
    Column("purging", Boolean, nullable=False, server_default=false()),
    Column("lock_reason", Text),
    Column("payment", Named(PaymentStanding), nullable=False, server_default=PaymentStanding.SETTLED.value),
    Column("payment_step_at", Instant),
    Column("provision", Named(ProvisionStanding), nullable=False, server_default=ProvisionStanding.PROVIDED.value),
    Column("provision_id", ID),
    Column("cause", Named(MailboxEvent), nullable=False, server_default=MailboxEvent.CREATE.value),
    *lease(),
    Column("display_name", Text, nullable=False, server_default=text("''")),
    Column("folded_name", OCTETS),  # display_name as searches compare it, NULL for none
    Column("storage_quota_bytes", BigInteger, nullable=False, server_default="0"),  # 0 for no limit
    Column("login_disabled", Boolean, nullable=False, server_default=false()),
    Column("sending_disabled", Boolean, nullable=False, server_default=false()),
    Column("receiving_disabled", Boolean, nullable=False, server_default=false()),
)
Index("ix_mailboxes_due_at", mailboxes.c.due_at)
WAITING = mailboxes.c.status == rendered(mailboxes.c.status, MailboxStatus.WAITING_DOMAIN)
"""Condition: the mailbox waits for its domain."""

partial_index("ix_mailboxes_waiting", mailboxes.c.domain_id, where=WAITING)
TO_PURGE = (
    mailboxes.c.status == rendered(mailboxes.c.status, MailboxStatus.DELETING),
    mailboxes.c.provision != rendered(mailboxes.c.provision, ProvisionStanding.DELETE_AWAITED),
)
"""Conditions: the mailbox of a deleted domain can be purged, or its deletion requested from the mail platform."""

partial_index("ix_mailboxes_to_purge", mailboxes.c.domain_id, mailboxes.c.id, where=and_(*TO_PURGE))

NEVER_PAID = (
    mailboxes.c.subscription_period.is_(None),
    mailboxes.c.period_anchor_at == mailboxes.c.created_at,
)
"""Conditions: no payment of the mailbox was ever confirmed (`Mailbox.never_paid`)."""

partial_index(
    "ix_mailboxes_never_paid",
    *(mailboxes.c[name] for name in ("organization_id", "project_id", "status", "domain_id")),
    where=and_(*NEVER_PAID),
)

partial_index(
    "ix_mailboxes_named",
    *(
        mailboxes.c[name]
        for name in ("organization_id", "folded_name", "email", "status", "project_id", "domain_id", "id")
    ),
    where=mailboxes.c.folded_name.is_not(None),
)

# Foreign keys, looked up when the row that they refer to is deleted.
Index("ix_mailboxes_domain_id", mailboxes.c.domain_id)
