"""Domains and their DNS records."""

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    literal,
)

from postroomd.domain.events import DomainEvent
from postroomd.domain.model import OWNING_STATUSES, DnsType, DomainStatus, RecordLevel, RecordStatus
from postroomd.storage.column_types import Instant, Named
from postroomd.storage.drivers.types import ID, OCTETS, partial_index
from postroomd.storage.schema.columns import identifier, lease, metadata, revision, times
from postroomd.storage.schema.tenancy import projects

domains = Table(
    "domains",
    metadata,
    identifier(primary_key=True),
    identifier("organization_id"),
    Column("project_id", ID, ForeignKey(projects.c.id), nullable=False),
    Column("name", OCTETS, nullable=False),
    Column("status", Named(DomainStatus), nullable=False),
    Column("mailbox_total_count", Integer, nullable=False),
    *times(),
    # When a caller requested the validation that is outstanding.
    Column("validation_requested_at", Instant),
    Column("validation_token", Text, nullable=False),
    Column("dkim_selector", Text, nullable=False),
    Column("dkim_private_key", Text, nullable=False),
    revision(),
    Column("provision_id", ID),
    # When a worker looks up the records next: during a lease, when the lease ends.
    Column("next_check_at", Instant),
    *lease(),
    Column("cause", Named(DomainEvent), nullable=False, server_default=DomainEvent.CREATE.value),
    Column("token_absent_since", Instant),
    Column("token_checked_at", Instant),
    Column("released_at", Instant),
    # Whether mailboxes have yet to follow the domain's status, and the last that does, in the order of their creation.
    Column("propagating", Boolean, nullable=False, server_default=false()),
    Column("propagated_created_at", Instant),
    Column("propagated_mailbox_id", ID),
    Column("looked_up_at", Instant),  # when a worker looked them up last
    Column("dkim_key_id", Text),  # the key that encrypts dkim_private_key; NULL: it is not encrypted
    UniqueConstraint("organization_id", "name"),
)

partial_index("uq_domains_proved_name", domains.c.name, where=domains.c.status.in_(OWNING_STATUSES), unique=True)
partial_index("ix_domains_next_check_at", domains.c.next_check_at, where=domains.c.next_check_at.is_not(None))
Index("ix_domains_status", domains.c.status)
Index("ix_domains_name", domains.c.name, domains.c.id)  # registrations of one name by several organizations
PROPAGATING = domains.c.propagating == literal(True, domains.c.propagating.type, literal_execute=True)
"""Condition: the domain's status has changed, and its mailboxes have yet to follow."""

partial_index("ix_domains_propagating", domains.c.propagating, where=PROPAGATING)

ENCRYPTION_INDEX = partial_index(
    "ix_domains_dkim_key_id", domains.c.dkim_key_id, where=domains.c.dkim_key_id.is_not(None)
)
"""Finds the keys that encrypt private keys. Migrations build it afterwards: writers do not wait."""

domain_records = Table(
    "domain_records",
    metadata,
    identifier(primary_key=True),
    identifier("organization_id"),
    Column("domain_id", ID, ForeignKey(domains.c.id, ondelete="CASCADE"), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("status", Named(RecordStatus), nullable=False),
    Column("level", Named(RecordLevel), nullable=False),
    Column("dns_type", Named(DnsType), nullable=False),
    Column("dns_name", Text, nullable=False),
    Column("dns_value", Text, nullable=False),
    Column("error", Text),
    *times(),
    UniqueConstraint("domain_id", "kind"),
)

Index("ix_domains_project_id", domains.c.project_id)
