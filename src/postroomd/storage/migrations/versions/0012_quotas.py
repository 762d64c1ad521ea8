"""Count what quotas limit: domains, aliases and stored responses of an organization, and aliases of a mailbox.

Triggers maintain the counts. A later revision that recreates one of the counted tables has to recreate its triggers.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0012"
down_revision = "0011"

ID = sa.String(36).with_variant(UUID(as_uuid=False), "postgresql")

# The counted table, the columns that identify the subjects of a quota, and the octets that a row counts.
COUNTED = (
    ("domains", ("organization_id",), "0"),
    ("aliases", ("organization_id", "mailbox_id"), "0"),
    ("idempotency_keys", ("organization_id",), "length({row}key) + length({row}digest) + length({row}answer)"),
)

OWN = "organization_id = NULLIF(current_setting('postroom.organization_id', true), '')::uuid"


def upgrade() -> None:
    """Create the table and the triggers, then count the existing rows: a trigger's creation locks out writers."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    op.create_table(
        "quota_usage",
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("resource", sa.String(32), nullable=False),
        sa.Column("subject_id", ID, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("octets", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "resource", "subject_id", name=op.f("pk_quota_usage")),
    )
    if postgresql:
        op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON quota_usage TO postroom_tenant")
        op.execute("ALTER TABLE quota_usage ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON quota_usage TO postroom_tenant USING ({OWN})")
    for table, subjects, octets in COUNTED:
        triggers = _counting_on_postgresql if postgresql else _counting_on_sqlite
        for statement in triggers(table, subjects, octets):
            op.execute(statement)
        for subject in subjects:
            op.execute(
                "INSERT INTO quota_usage (organization_id, resource, subject_id, count, octets)"
                f" SELECT organization_id, '{table}', {subject}, count(*), sum({octets.format(row='')})"
                f" FROM {table} GROUP BY organization_id, {subject}"
            )


def _counting_on_sqlite(table: str, subjects: tuple[str, ...], octets: str) -> Iterator[str]:
    """Yield triggers per row: SQLite has no others, and one writer."""
    increment, decrement = "", ""
    for subject in subjects:
        increment += (
            "INSERT INTO quota_usage (organization_id, resource, subject_id, count, octets)"
            f" VALUES (NEW.organization_id, '{table}', NEW.{subject}, 1, {octets.format(row='NEW.')})"
            " ON CONFLICT (organization_id, resource, subject_id)"
            " DO UPDATE SET count = count + 1, octets = octets + excluded.octets; "
        )
        row = f"organization_id = OLD.organization_id AND resource = '{table}' AND subject_id = OLD.{subject}"
        decrement += (
            f"UPDATE quota_usage SET count = count - 1, octets = octets - ({octets.format(row='OLD.')}) WHERE {row}; "
            f"DELETE FROM quota_usage WHERE {row} AND count = 0; "
        )
    yield f"CREATE TRIGGER use_{table}_insert AFTER INSERT ON {table} BEGIN {increment} END"
    yield f"CREATE TRIGGER use_{table}_delete AFTER DELETE ON {table} BEGIN {decrement} END"


def _counting_on_postgresql(table: str, subjects: tuple[str, ...], octets: str) -> Iterator[str]:
    """Yield triggers per statement. Organizations are counted before mailboxes, and each in the order of its ids, so
    that two writers cannot deadlock over the counts.
    """
    for event, rows, sign in (("insert", "new_rows", 1), ("delete", "old_rows", -1)):
        body = ""
        for subject in subjects:
            body += (
                "INSERT INTO quota_usage (organization_id, resource, subject_id, count, octets)"
                f" SELECT organization_id, '{table}', {subject}, {sign} * count(*),"
                f" {sign} * sum({octets.format(row='')})"
                f" FROM {rows} GROUP BY organization_id, {subject} ORDER BY organization_id, {subject}"
                " ON CONFLICT (organization_id, resource, subject_id) DO UPDATE"
                " SET count = quota_usage.count + EXCLUDED.count, octets = quota_usage.octets + EXCLUDED.octets; "
            )
            if event == "delete":
                body += (
                    f"DELETE FROM quota_usage WHERE resource = '{table}' AND count <= 0"
                    f" AND (organization_id, subject_id) IN (SELECT organization_id, {subject} FROM {rows}); "
                )
        yield (
            f"CREATE FUNCTION use_{table}_{event}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN {body} RETURN NULL; END $$"
        )
        yield (
            f"CREATE TRIGGER use_{table}_{event} AFTER {event.upper()} ON {table}"
            f" REFERENCING {rows.removesuffix('_rows').upper()} TABLE AS {rows}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION use_{table}_{event}()"
        )
