"""The schema, for both engines.

Every tenant's table carries organization_id and project_id, so that a statement is scoped by its own row. Instants are
whole microseconds since 1970 in UTC: exact, and of one order on both engines. Addresses and names are compared octet
by octet on both.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    Dialect,
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
)
from sqlalchemy.types import TypeDecorator

from postroomd.domain.events import MailboxEvent, PaymentStanding, ProvisionStanding
from postroomd.domain.model import (
    AliasStatus,
    DnsType,
    DomainStatus,
    MailboxStatus,
    RecordLevel,
    RecordStatus,
    SubscriptionPeriod,
)
from postroomd.domain.payments import OPEN, PaymentStatus
from postroomd.domain.provisions import ProvisionKind, ProvisionStatus
from postroomd.storage.drivers import types
from postroomd.storage.drivers.types import partial_index

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware datetime as microseconds since 1970, UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To the database."""
        return None if value is None else (value - EPOCH) // MICROSECOND

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[int | None], datetime | None]:
        """From the database: one call a value, since it is done for each of a page."""
        return _instant


def _instant(value: int | None) -> datetime | None:
    # By position: by its name it would take half as long again.
    return None if value is None else EPOCH + timedelta(0, 0, value)


Member = TypeVar("Member", bound=StrEnum)


class Named(TypeDecorator[Member], Generic[Member]):
    """A member of an enum as its value."""

    impl = String(32)
    cache_ok = True

    def __init__(self, enum: type[Member]) -> None:
        super().__init__()
        self.enum = enum

    def process_bind_param(self, value: Member | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else value.value

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], Member | None]:
        """From the database: one look-up a value, since it is done for each of a page."""
        members: dict[str | None, Member | None] = {None: None, **{member.value: member for member in self.enum}}
        return members.__getitem__


ID = types.ID
OCTETS = types.OCTETS

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
    """A value in the SQL itself: SQLite has to see that a statement keeps to the rows of a partial index."""
    return literal(value, column.type, literal_execute=True)


def _lease() -> Iterator[Column[int]]:
    """How often the row has been given to a worker, and how often in a row its step has failed since."""
    yield Column("claim", Integer, nullable=False, server_default="0")
    yield Column("failures", Integer, nullable=False, server_default="0")


organizations = Table(
    "organizations",
    metadata,
    _id(primary_key=True),
    Column("created_at", Instant, nullable=False),
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
    Column("secret_prefix", LargeBinary(8), nullable=False, index=True),  # its first octets, to find it by
    Column("organization_id", ID, ForeignKey(organizations.c.id), nullable=False, index=True),
    Column("project_id", ID, ForeignKey(projects.c.id)),
    Column("default_project_id", ID, ForeignKey(projects.c.id), nullable=False),
    Column("read_only", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
)

# The operator's keys: no tenant's role sees them.
admin_keys = Table(
    "admin_keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("secret_hash", LargeBinary(32), nullable=False),  # SHA-256
    Column("secret_prefix", LargeBinary(8), nullable=False, index=True),  # its first octets, to find it by
    Column("read_only", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
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
    # Set while a caller is owed a look-up of its records: when it was asked for.
    Column("validation_requested_at", Instant),
    Column("validation_token", Text, nullable=False),
    Column("dkim_selector", Text, nullable=False),
    Column("dkim_private_key", Text, nullable=False),
    _revision(),
    Column("provision_id", ID),
    # When a worker looks the records up next; while one does, when another may.
    Column("next_check_at", Instant),
    *_lease(),
    UniqueConstraint("organization_id", "name"),
)

OWNING_STATUSES = (DomainStatus.PROVISIONING, DomainStatus.READY)
"""The statuses in which a domain has its name to itself, among all organizations."""

partial_index("uq_domains_proved_name", domains.c.name, where=domains.c.status.in_(OWNING_STATUSES), unique=True)
partial_index("ix_domains_next_check_at", domains.c.next_check_at, where=domains.c.next_check_at.is_not(None))
Index("ix_domains_status", domains.c.status)

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
    Column("subscription_period", Named(SubscriptionPeriod), nullable=False),
    Column("last_paid_period", Named(SubscriptionPeriod), nullable=False),
    Column("period_anchor_at", Instant, nullable=False),
    Column("subscription_period_started_at", Instant, nullable=False),
    Column("next_subscription_period", Named(SubscriptionPeriod), nullable=False),
    Column("next_subscription_period_starts_at", Instant),
    *_times(),
    Column("deletion_scheduled_at", Instant),
    # When a worker looks at the mailbox next: as mailboxes.due_at has it, and while one does, when another may.
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
)
Index("ix_mailboxes_due_at", mailboxes.c.due_at)
WAITING = mailboxes.c.status == _literal(mailboxes.c.status, MailboxStatus.WAITING_DOMAIN)
"""Mailboxes that wait for their domain."""

partial_index("ix_mailboxes_waiting", mailboxes.c.domain_id, where=WAITING)
TO_PURGE = (
    mailboxes.c.status == _literal(mailboxes.c.status, MailboxStatus.DELETING),
    mailboxes.c.provision != _literal(mailboxes.c.provision, ProvisionStanding.DELETE_AWAITED),
)
"""Mailboxes of deleted domains that are to be purged, or of which the mail platform is to be asked."""

partial_index("ix_mailboxes_to_purge", mailboxes.c.domain_id, mailboxes.c.id, where=and_(*TO_PURGE))

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
"""Aliases that the mail platform is to be asked for, once their domain is ready."""

partial_index("ix_aliases_to_request", aliases.c.domain_id, where=and_(*TO_REQUEST))

# Who has an address: a mailbox or an alias of the domain, one alone. The primary key is the rule.
addresses = Table(
    "addresses",
    metadata,
    Column("domain_id", ID, ForeignKey(domains.c.id), primary_key=True),
    Column("local_part", OCTETS, primary_key=True),
    _id("organization_id"),
    Column("mailbox_id", ID, ForeignKey(mailboxes.c.id, ondelete="CASCADE"), index=True),
    Column("alias_id", ID, ForeignKey(aliases.c.id, ondelete="CASCADE"), index=True),
)

# What calls under an idempotency key were answered. A key belongs to whoever can see what it did: the organization, or
# the one project that the API key is limited to ("" for none).
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("organization_id", ID, primary_key=True),
    Column("project_scope", String(36), primary_key=True),
    Column("key", OCTETS, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),  # HMAC-SHA-256 of RPC and request, by the secret
    Column("answer", LargeBinary, nullable=False),  # the response, in protobuf
    Column("expires_at", Instant, nullable=False, index=True),
)

# What follows outlives the mailboxes that it is about, and holds no personal data.

payments = Table(
    "payments",
    metadata,
    _id(primary_key=True),
    *_owner(),
    _id("mailbox_id"),
    Column("period", Named(SubscriptionPeriod), nullable=False),
    Column("period_started_at", Instant, nullable=False),
    Column("requested_at", Instant, nullable=False),
    Column("overdue_at", Instant, nullable=False),
    Column("status", Named(PaymentStatus), nullable=False),
    Column("settled_at", Instant),
    Column("reason", Text),
)
OPEN_PAYMENT = payments.c.status.in_(bindparam("open", OPEN, expanding=True, literal_execute=True))
"""Payments that can still be confirmed."""

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
)
PENDING_PROVISION = provisions.c.status == _literal(provisions.c.status, ProvisionStatus.PENDING)
"""Work that the mail platform has not confirmed."""

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

# How many of a list there are, by what lists are narrowed by. Triggers keep both (migration 0004), in the transaction
# and at the statement that changes a row, so that no writer can forget them; a row that reaches nothing goes. A project
# has a row a list and status, so that a count adds up a few rows, however many domains there are. Who changes a status
# holds these rows until the commit: on PostgreSQL such changes of one project take turns, as its creations do.
project_counts = Table(
    "project_counts",
    metadata,
    Column("organization_id", ID, primary_key=True),
    Column("project_id", ID, primary_key=True),
    Column("list", String(32), primary_key=True),  # the table that is counted
    Column("status", String(32), primary_key=True),
    Column("count", Integer, nullable=False),
)

# The mailboxes of each domain.
domain_counts = Table(
    "domain_counts",
    metadata,
    Column("organization_id", ID, primary_key=True),
    Column("domain_id", ID, primary_key=True),
    Column("status", String(32), primary_key=True),
    _id("project_id"),
    Column("count", Integer, nullable=False),
)

DERIVED_TABLES = (project_counts, domain_counts)
"""What triggers make of other tables' rows. A copy of those rows makes them again."""

TENANT_TABLES = (
    projects,
    domains,
    domain_records,
    mailboxes,
    aliases,
    addresses,
    idempotency_keys,
    payments,
    provisions,
    transitions,
    tombstones,
    *DERIVED_TABLES,
)
"""What the tenants' role may see on PostgreSQL, row by row; it may not see the others at all."""

LIST_INDEXES = (
    (domains, ("organization_id", "project_id"), ("created_at", "updated_at", "name", "mailbox_total_count")),
    (mailboxes, ("organization_id", "project_id", "domain_id"), ("created_at", "updated_at", "email")),
    (aliases, ("organization_id", "project_id", "mailbox_id"), ("created_at", "updated_at", "email")),
)
"""Table, the columns that a list is narrowed by, and those it is ordered by: an index serves each pair.

Every list names its organization, and so does every index: SQLite, which keeps no statistics by itself, then takes
the one that fits the most of a list's conditions. Each ends in the status: a list narrowed by that passes over rows
without looking them up. An index with the status before each order would serve such lists alone, and there would be
nine more for each write of a mailbox: where few rows have a status, they are gathered by the one index below instead.
"""

for _table, _filters, _orders in LIST_INDEXES:
    for _filter in _filters:
        _narrowing = [_table.c[name] for name in dict.fromkeys(("organization_id", _filter))]
        for _order in _orders:
            Index(f"ix_{_table.name}_{_filter}_{_order}", *_narrowing, _table.c[_order], _table.c.id, _table.c.status)
    Index(f"ix_{_table.name}_gathered", _table.c.organization_id, _table.c.status, _table.c.project_id, _table.c.id)

# What a row that is deleted is looked for by, in the tables that point at it.
Index("ix_mailboxes_domain_id", mailboxes.c.domain_id)
Index("ix_aliases_domain_id", aliases.c.domain_id)
Index("ix_aliases_mailbox_id", aliases.c.mailbox_id)
Index("ix_domains_project_id", domains.c.project_id)

SEARCHED = ((mailboxes, "email"), (domains, "name"))
"""Columns that are searched by substring, each with a trigram index of migration 0004: `search_TABLE`."""


def search_columns(table: Table) -> list[Column[Any]]:
    """Return the columns of the view that PostgreSQL searches a table through."""
    filters, orders = next((filters, orders) for listed, filters, orders in LIST_INDEXES if listed is table)
    return [table.c[name] for name in ("id", *filters, *orders, "status")]
