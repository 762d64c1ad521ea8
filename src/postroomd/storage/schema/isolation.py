"""The tables that PostgreSQL's tenant role can access."""

from postroomd.storage.schema.aliases import addresses, aliases
from postroomd.storage.schema.audit import audit_events
from postroomd.storage.schema.counts import DERIVED_TABLES
from postroomd.storage.schema.domains import domain_records, domains
from postroomd.storage.schema.forwardings import forwardings, mailbox_forwardings
from postroomd.storage.schema.history import domain_transitions, tombstones, transitions
from postroomd.storage.schema.idempotency import idempotency_keys
from postroomd.storage.schema.mailboxes import mailboxes
from postroomd.storage.schema.payments import payments
from postroomd.storage.schema.provisions import provisions
from postroomd.storage.schema.sessions import session_ends
from postroomd.storage.schema.tenancy import projects

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
