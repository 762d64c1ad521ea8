"""Add the views that mail servers read: version 1 of the SQL contract of docs/mail-server.md.

A view of this version keeps its columns. A change of them is a new version, mail_v2_…, beside these.

An address is looked up by its domain and its local part: the unique index of the names of owned domains, the primary
key of the addresses and that of the mailboxes find it, however many there are. The domain's condition occurs twice,
because SQLite uses a partial index only for a query that contains the index's own condition.

On PostgreSQL the owner of the tables owns the views, so that row-level security, which applies to other roles, does not
hide rows from their readers; and they are security barriers: a reader's own functions do not see rows of others.
"""

from collections.abc import Iterator

from alembic import op

revision = "0019"
down_revision = "0018"

CATCH_ALL = "a.local_part = ''"
HOSTED = "d.status IN ('provisioning', 'ready') AND d.status = 'ready'"

# A mailbox that was never in use: no payment of it was ever confirmed, or it was never provisioned.
UNUSED = "(m.provision = 'create_awaited' OR m.subscription_period IS NULL AND m.period_anchor_at = m.created_at)"
NOT_YET = "'451 4.2.1 The mailbox is not available yet, try again later'"
DISABLED = "'550 5.2.1 The mailbox is disabled'"
IN_USE = f"m.status IN ('ready', 'renewing', 'payment_failed') AND NOT {UNUSED}"
RECEIVING = f"m.status IN ('ready', 'renewing', 'payment_failed', 'locked') AND NOT {UNUSED}"

REPLY = (
    f"CASE WHEN m.status IN ('deletion_scheduled', 'deleting') THEN {DISABLED}"
    f" WHEN NOT ({RECEIVING}) THEN {NOT_YET}"
    f" WHEN m.receiving_disabled THEN {DISABLED} ELSE '' END"
)


def _flag(condition: str) -> str:
    """Return a condition as 1 or 0: SQLite has no booleans, and a query has to be the same on both engines."""
    return f"CASE WHEN {condition} THEN 1 ELSE 0 END"


MAILBOX_ACCESS = (
    f"m.status AS status, {_flag(f'{IN_USE} AND NOT m.login_disabled')} AS may_log_in,"
    f" {_flag(f'{IN_USE} AND NOT m.sending_disabled')} AS may_send,"
    f" {_flag(f'{RECEIVING} AND NOT m.receiving_disabled')} AS may_receive, {REPLY} AS smtp_reply"
)

# An alias that the mail platform has yet to create receives mail later: it must not be refused permanently.
ALIAS_ACCESS = (
    f"m.status AS status, {_flag(f'{IN_USE} AND NOT m.login_disabled')} AS may_log_in,"
    f" {_flag(f'{IN_USE} AND NOT m.sending_disabled')} AS may_send,"
    f""" {_flag(f"{RECEIVING} AND NOT m.receiving_disabled AND al.status = 'ready'")} AS may_receive,"""
    f" CASE WHEN al.status = 'provisioning' AND m.status NOT IN ('deletion_scheduled', 'deleting') THEN {NOT_YET}"
    f" ELSE {REPLY} END AS smtp_reply"
)

VIEWS = {
    "mail_v1_domains": f"SELECT d.name AS name FROM domains AS d WHERE {HOSTED}",
    "mail_v1_users": (
        "SELECT m.id AS id, d.name AS domain, a.local_part AS local_part, m.email AS email,"
        f" m.display_name AS display_name, m.password_hash AS password, {MAILBOX_ACCESS},"
        " m.storage_quota_bytes AS storage_quota_bytes"
        " FROM domains AS d JOIN addresses AS a ON a.domain_id = d.id JOIN mailboxes AS m ON m.id = a.mailbox_id"
        f" WHERE {HOSTED}"
    ),
    "mail_v1_aliases": (
        "SELECT al.id AS id, d.name AS domain, a.local_part AS local_part, al.email AS email,"
        f" {_flag(CATCH_ALL)} AS catch_all, m.id AS mailbox_id, m.email AS mailbox_email,"
        f" {ALIAS_ACCESS}"
        " FROM domains AS d JOIN addresses AS a ON a.domain_id = d.id JOIN aliases AS al ON al.id = a.alias_id"
        " JOIN mailboxes AS m ON m.id = al.mailbox_id"
        f" WHERE {HOSTED} AND al.status <> 'deleting'"
    ),
    "mail_v1_forwardings": (
        "SELECT f.id AS id, d.name AS domain, a.local_part AS local_part, m.email AS email, m.id AS mailbox_id,"
        f" f.email AS destination, {_flag('coalesce(s.keep_copy, true)')} AS keep_copy"
        " FROM domains AS d JOIN addresses AS a ON a.domain_id = d.id JOIN mailboxes AS m ON m.id = a.mailbox_id"
        " JOIN forwardings AS f ON f.mailbox_id = m.id LEFT JOIN mailbox_forwardings AS s ON s.mailbox_id = m.id"
        f" WHERE {HOSTED} AND f.status IN ('ready', 'updating') AND coalesce(s.enabled, true)"
        f" AND {IN_USE} AND NOT m.receiving_disabled"
    ),
    "mail_v1_dkim": (
        "SELECT d.name AS domain, d.dkim_selector AS selector, r.dns_value AS public_value"
        " FROM domains AS d JOIN domain_records AS r ON r.domain_id = d.id"
        f" WHERE {HOSTED} AND r.kind = 'dkim'"
    ),
    "mail_v1_purged": "SELECT mailbox_id AS id, purged_at AS purged_at FROM tombstones",
}


def upgrade() -> None:
    """Create the views."""
    for statement in _statements(postgresql=op.get_bind().dialect.name == "postgresql"):
        op.execute(statement)


def _statements(*, postgresql: bool) -> Iterator[str]:
    options = " WITH (security_barrier)" if postgresql else ""
    for name, query in VIEWS.items():
        yield f"CREATE VIEW {name}{options} AS {query}"
