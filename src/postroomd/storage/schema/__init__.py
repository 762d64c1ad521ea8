"""The database schema, for both engines.

Every tenant's table has organization_id, and most have project_id, so that a statement is scoped by its own rows.
Instants are whole microseconds since 1970 in UTC: exact, and equally ordered on both engines. Addresses and names are
compared octet by octet.
"""

from postroomd.clock import EPOCH, MICROSECOND
from postroomd.storage.column_types import Instant, Named, Names
from postroomd.storage.drivers.types import ID, OCTETS
from postroomd.storage.schema.aliases import TO_REQUEST, addresses, aliases
from postroomd.storage.schema.audit import AUDIT_FILTERS, audit_events
from postroomd.storage.schema.clocks import clock_acceptances, worker_clocks
from postroomd.storage.schema.columns import metadata
from postroomd.storage.schema.counts import DERIVED_TABLES, domain_counts, project_counts, quota_usage
from postroomd.storage.schema.dkim import dkim_rotations
from postroomd.storage.schema.domains import ENCRYPTION_INDEX, PROPAGATING, domain_records, domains
from postroomd.storage.schema.forwardings import FORWARDINGS_TO_REQUEST, forwardings, mailbox_forwardings
from postroomd.storage.schema.history import HISTORY, HISTORY_INDEXES, domain_transitions, tombstones, transitions
from postroomd.storage.schema.idempotency import idempotency_keys
from postroomd.storage.schema.isolation import TENANT_TABLE_NAMES, TENANT_TABLES
from postroomd.storage.schema.lists import LIST_INDEXES, SEARCHED, SEARCHED_NAMES, search_columns, searched_columns
from postroomd.storage.schema.mailboxes import NEVER_PAID, TO_PURGE, WAITING, mailboxes
from postroomd.storage.schema.payments import OPEN_PAYMENT, payments
from postroomd.storage.schema.provisions import PENDING_PROVISION, provisions
from postroomd.storage.schema.sessions import session_ends
from postroomd.storage.schema.tenancy import admin_keys, api_keys, organizations, projects

__all__ = [
    "AUDIT_FILTERS",
    "DERIVED_TABLES",
    "ENCRYPTION_INDEX",
    "EPOCH",
    "FORWARDINGS_TO_REQUEST",
    "HISTORY",
    "HISTORY_INDEXES",
    "ID",
    "LIST_INDEXES",
    "MICROSECOND",
    "NEVER_PAID",
    "OCTETS",
    "OPEN_PAYMENT",
    "PENDING_PROVISION",
    "PROPAGATING",
    "SEARCHED",
    "SEARCHED_NAMES",
    "TENANT_TABLES",
    "TENANT_TABLE_NAMES",
    "TO_PURGE",
    "TO_REQUEST",
    "WAITING",
    "Instant",
    "Named",
    "Names",
    "addresses",
    "admin_keys",
    "aliases",
    "api_keys",
    "audit_events",
    "clock_acceptances",
    "dkim_rotations",
    "domain_counts",
    "domain_records",
    "domain_transitions",
    "domains",
    "forwardings",
    "idempotency_keys",
    "mailbox_forwardings",
    "mailboxes",
    "metadata",
    "organizations",
    "payments",
    "project_counts",
    "projects",
    "provisions",
    "quota_usage",
    "search_columns",
    "searched_columns",
    "session_ends",
    "tombstones",
    "transitions",
    "worker_clocks",
]
