"""Let a subscription start with its first payment, and take mailboxes that were never paid for out of the quota.

The rows of first payments that are not confirmed lose their period and its instants.
"""

import re

import sqlalchemy as sa
from alembic import op

from postroomd.domain.errors import SchemaMismatch

revision = "0007"
down_revision = "0006"

NULLABLE = {
    "mailboxes": ("subscription_period", "subscription_period_started_at"),
    "payments": ("period_started_at",),
}

# A renewal starts after the anchor: only a first period starts at it.
FIRST_UNPAID = "payment <> 'settled' AND subscription_period_started_at = period_anchor_at"
NEVER_PAID = "subscription_period IS NULL AND period_anchor_at = created_at"
NOT_COUNTED = f"SELECT project_id FROM mailboxes WHERE {NEVER_PAID} AND status IN ('deletion_scheduled', 'deleting')"


def upgrade() -> None:
    """Make the columns nullable, rewrite the rows, and recount the projects that have such mailboxes."""
    for table, columns in NULLABLE.items():
        _make_nullable(table, columns)
    op.execute(
        "UPDATE payments SET period_started_at = NULL WHERE status IN ('pending', 'refused', 'overdue')"
        " AND EXISTS (SELECT 1 FROM mailboxes WHERE mailboxes.id = payments.mailbox_id"
        f" AND {FIRST_UNPAID} AND mailboxes.subscription_period_started_at = payments.period_started_at)"
    )
    op.execute(
        "UPDATE mailboxes SET subscription_period = NULL, subscription_period_started_at = NULL,"
        f" next_subscription_period_starts_at = NULL, revision = revision + 1 WHERE {FIRST_UNPAID}"
    )
    op.create_index(
        "ix_mailboxes_never_paid",
        "mailboxes",
        ["organization_id", "project_id", "status", "domain_id"],
        sqlite_where=sa.text(NEVER_PAID),
        postgresql_where=sa.text(NEVER_PAID),
    )
    op.execute(
        "UPDATE projects SET mailbox_count = mailbox_count"
        f" - (SELECT count(*) FROM ({NOT_COUNTED}) AS mailbox WHERE mailbox.project_id = projects.id)"
        f" WHERE id IN ({NOT_COUNTED})"
    )


def _make_nullable(table: str, columns: tuple[str, ...]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        for column in columns:
            op.alter_column(table, column, nullable=True)
        return
    # The procedure of https://www.sqlite.org/lang_altertable.html#otheralter for the removal of NOT NULL: it changes no
    # row. To recreate the table would drop its triggers, and the foreign keys to it would delete their rows.
    connection = op.get_bind()
    declared = connection.exec_driver_sql(f"SELECT sql FROM sqlite_master WHERE type = 'table' AND name = '{table}'")
    statement = str(declared.scalar_one())
    for column in columns:
        statement = re.sub(rf"(?<!\w)({column} [^,]*?) NOT NULL", r"\1", statement, count=1)
    version = int(connection.exec_driver_sql("PRAGMA schema_version").scalar_one())
    op.execute("PRAGMA writable_schema = ON")
    connection.exec_driver_sql("UPDATE sqlite_master SET sql = ? WHERE type = 'table' AND name = ?", (statement, table))
    op.execute(f"PRAGMA schema_version = {version + 1}")
    op.execute("PRAGMA writable_schema = RESET")
    required = {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})") if row[3]}
    if required.intersection(columns):
        raise SchemaMismatch(f"this SQLite does not let {table} be changed: run `postroom migrate` with another build")
