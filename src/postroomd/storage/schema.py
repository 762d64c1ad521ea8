"""The database schema, for both engines.

Every tenant's table has organization_id, and most have project_id, so that a statement is scoped by its own rows.
Instants are whole microseconds since 1970 in UTC: exact, and equally ordered on both engines. Addresses and names are
compared octet by octet.
"""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    bindparam,
    false,
    literal,
    text,
)

from postroomd.clock import EPOCH as EPOCH
from postroomd.clock import MICROSECOND as MICROSECOND
from postroomd.domain.events import DomainEvent, MailboxEvent, PaymentStanding, ProvisionStanding
from postroomd.domain.model import (
    AliasStatus,
    DnsType,
    DomainStatus,
    ForwardingStatus,
    MailboxStatus,
    RecordLevel,
    RecordStatus,
    SubscriptionPeriod,
)
from postroomd.domain.payments import OPEN_STATUSES, PaymentStatus
from postroomd.domain.provisions import ProvisionKind, ProvisionStatus
from postroomd.storage.column_types import Instant as Instant
from postroomd.storage.column_types import Named as Named
from postroomd.storage.column_types import Names as Names
from postroomd.storage.drivers.types import ID as ID
from postroomd.storage.drivers.types import OCTETS as OCTETS
from postroomd.storage.drivers.types import partial_index

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id(name: str = "id", **options: Any) -> Column[str]:
    return Column(name, ID, nullable=False, **options)


def _owner() -> Iterator[Column[str]]:
    yield _id("organization_id")
    yield _id("project_id")


def _times() -> Iterator[Column[datetime]]:
    yield Column("created_at", Instant, nullable=False)
    yield Column("updated_at", Instant, nullable=False)


def _revision() -> Column[int]:
    return Column("revision", Integer, nullable=False, server_default="1")


def _literal(column: Column[Any], value: StrEnum) -> BindParameter[Any]:
    """Return a value rendered into the SQL, from which SQLite can tell that a partial index applies."""
    return literal(value, column.type, literal_execute=True)


def _lease() -> Iterator[Column[int]]:
    """Yield the generation of the row's lease, and its consecutive failures."""
    yield Column("claim", Integer, nullable=False, server_default="0")  # the generation
    yield Column("failures", Integer, nullable=False, server_default="0")


organizations = Table(
    "organizations",
    metadata,
    _id(primary_key=True),
    Column("created_at", Instant, nullable=False),
    Column("name", Text, nullable=False, server_default=text("''")),
)

projects = Table(
    "projects",
    metadata,
    _id(primary_key=True),
    Column("organization_id", ID, ForeignKey(organizations.c.id), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("mailbox_quota", Integer, nullable=False),
    Column("mailbox_count", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("access_key", String(20), primary_key=True),
    Column("secret_hash", LargeBinary(32), nullable=False),  # SHA-256
    Column("secret_prefix", LargeBinary(8), nullable=False, index=True),  # its first octets, for lookups
    Column("organization_id", ID, ForeignKey(organizations.c.id), nullable=False, index=True),
    Column("project_id", ID, ForeignKey(projects.c.id)),
    Column("default_project_id", ID, ForeignKey(projects.c.id), nullable=False),
    Column("read_only", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("name", Text, nullable=False, server_default=text("''")),
    Column("password_hashes", Boolean, nullable=False, server_default=false()),
)

# The operator's keys, invisible to the tenants' role.
admin_keys = Table(
    "admin_keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("secret_hash", LargeBinary(32), nullable=False),  # SHA-256
    Column("secret_prefix", LargeBinary(8), nullable=False, index=True),  # its first octets, for lookups
    Column("read_only", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
)

# The latest time that the workers of each boot of a machine have trusted: a clock that is behind it has leapt.
worker_clocks = Table(
    "worker_clocks",
    metadata,
    Column("time_scale", String(80), primary_key=True),
    Column("trusted_at", Instant, nullable=False),
    Column("origin", Instant),
    Column("leapt_to", Instant),
    Column("acceptance", Integer, nullable=False),
)

clock_acceptances = Table(
    "clock_acceptances",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("accepted_at", Instant, nullable=False),
    Column("database_at", Instant),
)

domains = Table(
    "domains",
    metadata,
    _id(primary_key=True),
    _id("organization_id"),
    Column("project_id", ID, ForeignKey(projects.c.id), nullable=False),
    Column("name", OCTETS, nullable=False),
    Column("status", Named(DomainStatus), nullable=False),
    Column("mailbox_total_count", Integer, nullable=False),
    *_times(),
    # When a caller requested the validation that is outstanding.
    Column("validation_requested_at", Instant),
    Column("validation_token", Text, nullable=False),
    Column("dkim_selector", Text, nullable=False),
    Column("dkim_private_key", Text, nullable=False),
    _revision(),
    Column("provision_id", ID),
    # When a worker looks up the records next: during a lease, when the lease ends.
    Column("next_check_at", Instant),
    *_lease(),
    Column("cause", Named(DomainEvent), nullable=False, server_default=DomainEvent.CREATE.value),
    Column("token_absent_since", Instant),
    Column("token_checked_at", Instant),
    Column("released_at", Instant),
    # Whether mailboxes have yet to follow the domain's status, and the last that does, in the order of their creation.
    Column("propagating", Boolean, nullable=False, server_default=false()),
    Column("propagated_created_at", Instant),
    Column("propagated_mailbox_id", ID),
    Column("looked_up_at", Instant),  # when a worker looked them up last
    UniqueConstraint("organization_id", "name"),
)

OWNING_STATUSES = (DomainStatus.PROVISIONING, DomainStatus.READY)
"""Statuses in which a domain owns its name among all organizations."""

partial_index("uq_domains_proved_name", domains.c.name, where=domains.c.status.in_(OWNING_STATUSES), unique=True)
partial_index("ix_domains_next_check_at", domains.c.next_check_at, where=domains.c.next_check_at.is_not(None))
Index("ix_domains_status", domains.c.status)
Index("ix_domains_name", domains.c.name, domains.c.id)  # registrations of one name by several organizations
PROPAGATING = domains.c.propagating == literal(True, domains.c.propagating.type, literal_execute=True)
"""Condition: the domain's status has changed, and its mailboxes have yet to follow."""

partial_index("ix_domains_propagating", domains.c.propagating, where=PROPAGATING)

domain_records = Table(
    "domain_records",
    metadata,
    _id(primary_key=True),
    _id("organization_id"),
    Column("domain_id", ID, ForeignKey(domains.c.id, ondelete="CASCADE"), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("status", Named(RecordStatus), nullable=False),
    Column("level", Named(RecordLevel), nullable=False),
    Column("dns_type", Named(DnsType), nullable=False),
    Column("dns_name", Text, nullable=False),
    Column("dns_value", Text, nullable=False),
    Column("error", Text),
    *_times(),
    UniqueConstraint("domain_id", "kind"),
)

mailboxes = Table(
    "mailboxes",
    metadata,
    _id(primary_key=True),
    *_owner(),
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
    *_times(),
    Column("deletion_scheduled_at", Instant),
    # When a worker handles the mailbox next: `domain.mailboxes.due_at`, or during a lease, when the lease ends.
    Column("due_at", Instant),
    _revision(),
    Column("purging", Boolean, nullable=False, server_default=false()),
    Column("lock_reason", Text),
    Column("payment", Named(PaymentStanding), nullable=False, server_default=PaymentStanding.SETTLED.value),
    Column("payment_step_at", Instant),
    Column("provision", Named(ProvisionStanding), nullable=False, server_default=ProvisionStanding.PROVIDED.value),
    Column("provision_id", ID),
    Column("cause", Named(MailboxEvent), nullable=False, server_default=MailboxEvent.CREATE.value),
    *_lease(),
    Column("display_name", Text, nullable=False, server_default=text("''")),
    Column("folded_name", OCTETS),  # display_name as searches compare it, NULL for none
    Column("storage_quota_bytes", BigInteger, nullable=False, server_default="0"),  # 0 for no limit
    Column("login_disabled", Boolean, nullable=False, server_default=false()),
    Column("sending_disabled", Boolean, nullable=False, server_default=false()),
    Column("receiving_disabled", Boolean, nullable=False, server_default=false()),
)
Index("ix_mailboxes_due_at", mailboxes.c.due_at)
WAITING = mailboxes.c.status == _literal(mailboxes.c.status, MailboxStatus.WAITING_DOMAIN)
"""Condition: the mailbox waits for its domain."""

partial_index("ix_mailboxes_waiting", mailboxes.c.domain_id, where=WAITING)
TO_PURGE = (
    mailboxes.c.status == _literal(mailboxes.c.status, MailboxStatus.DELETING),
    mailboxes.c.provision != _literal(mailboxes.c.provision, ProvisionStanding.DELETE_AWAITED),
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

aliases = Table(
    "aliases",
    metadata,
    _id(primary_key=True),
    *_owner(),
    Column("domain_id", ID, ForeignKey(domains.c.id), nullable=False),
    Column("mailbox_id", ID, ForeignKey(mailboxes.c.id, ondelete="CASCADE"), nullable=False),
    Column("email", OCTETS, nullable=False),
    Column("description", Text, nullable=False),
    Column("status", Named(AliasStatus), nullable=False),
    *_times(),
    _revision(),
    Column("provision_id", ID),
)

TO_REQUEST = (
    aliases.c.status == _literal(aliases.c.status, AliasStatus.PROVISIONING),
    aliases.c.provision_id.is_(None),
)
"""Conditions: the alias awaits its provision, which is requested once its domain is ready."""

partial_index("ix_aliases_to_request", aliases.c.domain_id, where=and_(*TO_REQUEST))

forwardings = Table(
    "forwardings",
    metadata,
    _id(primary_key=True),
    *_owner(),
    Column("domain_id", ID, ForeignKey(domains.c.id), nullable=False),
    Column("mailbox_id", ID, ForeignKey(mailboxes.c.id, ondelete="CASCADE"), nullable=False),
    Column("email", OCTETS, nullable=False),  # the destination
    Column("status", Named(ForwardingStatus), nullable=False),
    *_times(),
    _revision(),
    Column("provision_id", ID),
    UniqueConstraint("mailbox_id", "email"),
)

FORWARDINGS_TO_REQUEST = (
    forwardings.c.status == _literal(forwardings.c.status, ForwardingStatus.PROVISIONING),
    forwardings.c.provision_id.is_(None),
)
"""Conditions: the forwarding awaits its provision, which is requested once its domain is ready."""

partial_index("ix_forwardings_to_request", forwardings.c.domain_id, where=and_(*FORWARDINGS_TO_REQUEST))

# The settings of each mailbox's forwardings, once they have been changed. Others have those of `default_settings`.
mailbox_forwardings = Table(
    "mailbox_forwardings",
    metadata,
    Column("mailbox_id", ID, ForeignKey(mailboxes.c.id, ondelete="CASCADE"), primary_key=True),
    *_owner(),
    Column("keep_copy", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    *_times(),
    _revision(),
)

# The owner of each address: either a mailbox or an alias. The primary key makes addresses unique.
addresses = Table(
    "addresses",
    metadata,
    Column("domain_id", ID, ForeignKey(domains.c.id), primary_key=True),
    Column("local_part", OCTETS, primary_key=True),
    _id("organization_id"),
    Column("mailbox_id", ID, ForeignKey(mailboxes.c.id, ondelete="CASCADE"), index=True),
    Column("alias_id", ID, ForeignKey(aliases.c.id, ondelete="CASCADE"), index=True),
)

# Responses to calls with an idempotency key. A key belongs to the scope of its caller: the organization, or the project
# that the API key is limited to ("" for none).
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("organization_id", ID, primary_key=True),
    Column("project_scope", String(36), primary_key=True),
    Column("key", OCTETS, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),  # HMAC-SHA-256 of RPC and request, by the secret
    # The response, in protobuf; empty for a call that changed nothing and whose response can be read again.
    Column("answer", LargeBinary, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
)

# The following tables outlive the domains and mailboxes that they refer to, and contain no personal data.

payments = Table(
    "payments",
    metadata,
    _id(primary_key=True),
    *_owner(),
    _id("mailbox_id"),
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

provisions = Table(
    "provisions",
    metadata,
    _id(primary_key=True),
    *_owner(),
    _id("domain_id"),
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
PENDING_PROVISION = provisions.c.status == _literal(provisions.c.status, ProvisionStatus.PENDING)
"""Condition: the mail platform has not confirmed the provision."""

partial_index("ix_provisions_pending", provisions.c.next_attempt_at, provisions.c.id, where=PENDING_PROVISION)
Index("ix_provisions_mailbox_id", provisions.c.mailbox_id)

transitions = Table(
    "transitions",
    metadata,
    Column("mailbox_id", ID, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    *_owner(),
    _id("domain_id"),
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
    *_owner(),
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
    *_owner(),
    _id("domain_id"),
    Column("address_hash", LargeBinary(32), nullable=False),  # HMAC-SHA-256 of the address, by the organization's id
    Column("purged_at", Instant, nullable=False),
    Column("cause", Named(MailboxEvent), nullable=False),
    Index("ix_tombstones_organization_id_address_hash", "organization_id", "address_hash"),
)

# Sessions on the mail server that have to end. Rows are short-lived: the worker removes them.
session_ends = Table(
    "session_ends",
    metadata,
    _id(primary_key=True),
    _id("organization_id"),
    Column("login_mask", OCTETS, nullable=False),
    # When a worker ends them: during a lease, when the lease ends.
    Column("due_at", Instant, nullable=False),
    Column("carried_out", Boolean, nullable=False, server_default=false()),  # once; it is done twice
    *_lease(),
    Index("ix_session_ends_due_at", "due_at"),
)

# The committed changes of tenants and the operator, by the call or command that made them: ids only, no secrets. Rows
# of what belongs to no tenant have no organization.
audit_events = Table(
    "audit_events",
    metadata,
    _id(primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", OCTETS, nullable=False),
    Column("action", String(64), nullable=False),
    Column("organization_id", ID),
    Column("project_id", ID),
    Column("resource_type", String(32), nullable=False),
    Column("resource_id", OCTETS, nullable=False),
    Column("resource_ids", Names, nullable=False),  # of all that a batch created
    Column("arguments", Names, nullable=False),  # the names of the request's fields that were set
    Column("client_address", String(45), nullable=False),
    Column("request_id", String(128), nullable=False),
)

AUDIT_FILTERS = ("resource_id", "actor", "project_id", "organization_id")
"""Columns that the list of audit events is filtered by, the most selective first: one index per column."""

Index("ix_audit_events_at", audit_events.c.at, audit_events.c.id)
for _name in AUDIT_FILTERS:
    Index(f"ix_audit_events_{_name}", audit_events.c[_name], audit_events.c.at, audit_events.c.id)

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

# Total counts of lists by project, resource and status, and by domain and status. Triggers maintain both (migrations
# 0004 and 0009), so that no writer can forget them, and delete rows whose count becomes 0. A total adds up a few rows
# however many domains there are. A change of status locks its rows until the commit: on PostgreSQL such changes of one
# project are serialized, as its creations are.
project_counts = Table(
    "project_counts",
    metadata,
    Column("organization_id", ID, primary_key=True),
    Column("project_id", ID, primary_key=True),
    Column("list", String(32), primary_key=True),  # the counted table
    Column("status", String(32), primary_key=True),
    Column("count", Integer, nullable=False),
)

# Counts of the mailboxes of each domain.
domain_counts = Table(
    "domain_counts",
    metadata,
    Column("organization_id", ID, primary_key=True),
    Column("domain_id", ID, primary_key=True),
    Column("status", String(32), primary_key=True),
    _id("project_id"),
    Column("count", Integer, nullable=False),
)

# How much an organization, or one of its mailboxes, has of what a quota limits. Triggers maintain it (migration 0012).
quota_usage = Table(
    "quota_usage",
    metadata,
    Column("organization_id", ID, primary_key=True),
    Column("resource", String(32), primary_key=True),  # the counted table
    Column("subject_id", ID, primary_key=True),  # the organization, or the mailbox of aliases
    Column("count", Integer, nullable=False),
    Column("octets", BigInteger, nullable=False),  # of keys, digests and responses in idempotency_keys; else 0
)

DERIVED_TABLES = (project_counts, domain_counts, quota_usage)
"""Tables that triggers maintain from the rows of others. Copying those rows fills them."""

TENANT_TABLES = (
    projects,
    domains,
    domain_records,
    mailboxes,
    aliases,
    forwardings,
    mailbox_forwardings,
    addresses,
    idempotency_keys,
    payments,
    provisions,
    transitions,
    domain_transitions,
    tombstones,
    session_ends,
    audit_events,
    *DERIVED_TABLES,
)
"""Tables whose rows PostgreSQL's tenant role sees by row-level security; it has no access to any other."""

TENANT_TABLE_NAMES = tuple(table.name for table in TENANT_TABLES)

LIST_INDEXES = (
    (domains, ("organization_id", "project_id"), ("created_at", "updated_at", "name", "mailbox_total_count")),
    (mailboxes, ("organization_id", "project_id", "domain_id"), ("created_at", "updated_at", "email")),
    (aliases, ("organization_id", "project_id", "mailbox_id"), ("created_at", "updated_at", "email")),
    (forwardings, ("organization_id", "project_id", "mailbox_id"), ("created_at", "updated_at", "email")),
)
"""Table, the columns that a list is filtered by, and those it is ordered by: one index per pair.

Every list is filtered by its organization, and every index begins with it: SQLite, which keeps no statistics, then
chooses the index that matches the most conditions. Each index ends with the status, so that a list filtered by status
skips rows without reading them. An index with the status before the order would serve only such lists, and each write
of a mailbox would maintain nine more; where few rows have a status, the `gathered` index finds them instead.
"""

for _table, _filters, _orders in LIST_INDEXES:
    for _filter in _filters:
        _prefix = [_table.c[name] for name in dict.fromkeys(("organization_id", _filter))]
        for _order in _orders:
            Index(f"ix_{_table.name}_{_filter}_{_order}", *_prefix, _table.c[_order], _table.c.id, _table.c.status)
    Index(f"ix_{_table.name}_gathered", _table.c.organization_id, _table.c.status, _table.c.project_id, _table.c.id)

# Foreign keys, looked up when the row that they refer to is deleted.
Index("ix_mailboxes_domain_id", mailboxes.c.domain_id)
Index("ix_aliases_domain_id", aliases.c.domain_id)
Index("ix_aliases_mailbox_id", aliases.c.mailbox_id)
Index("ix_forwardings_domain_id", forwardings.c.domain_id)
Index("ix_domains_project_id", domains.c.project_id)

SEARCHED = ((mailboxes, "email"), (mailboxes, "folded_name"), (domains, "name"))
"""Columns that are searched by substring. PostgreSQL has a trigram index of each, SQLite one of each table (migrations
0008 and 0015)."""

SEARCHED_NAMES = tuple((table.name, column) for table, column in SEARCHED)


def search_columns(table: Table) -> list[Column[Any]]:
    """Return the columns of the view that PostgreSQL searches a table through."""
    filters, orders = next((filters, orders) for listed, filters, orders in LIST_INDEXES if listed is table)
    names = dict.fromkeys(("id", *filters, *orders, "status", *searched_columns(table)))
    return [table.c[name] for name in names]


def searched_columns(table: Table) -> tuple[str, ...]:
    """Return the names of a table's columns that are searched by substring."""
    return tuple(column for searched, column in SEARCHED if searched is table)
