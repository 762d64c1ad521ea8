"""Add forwardings, and the settings of mailboxes' forwardings."""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0009"
down_revision = "0008"

ID = sa.String(36).with_variant(UUID(as_uuid=False), "postgresql")
OCTETS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

TO_REQUEST = "status = 'provisioning' AND provision_id IS NULL"
OWN = "organization_id = NULLIF(current_setting('postroom.organization_id', true), '')::uuid"


def upgrade() -> None:
    """Create the tables. Mailboxes without a row of settings have the defaults, so that none need be written."""
    _create_tables()
    op.add_column("provisions", sa.Column("forwarding_id", ID))
    postgresql = op.get_bind().dialect.name == "postgresql"
    for statement in _counting_on_postgresql() if postgresql else _counting_on_sqlite():
        op.execute(statement)
    if postgresql:
        for table in ("forwardings", "mailbox_forwardings"):
            op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO postroom_tenant")
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} TO postroom_tenant USING ({OWN})")


def _create_tables() -> None:
    op.create_table(
        "forwardings",
        sa.Column("id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("domain_id", ID, nullable=False),
        sa.Column("mailbox_id", ID, nullable=False),
        sa.Column("email", OCTETS, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("provision_id", ID),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name=op.f("fk_forwardings_domain_id")),
        sa.ForeignKeyConstraint(
            ["mailbox_id"], ["mailboxes.id"], name=op.f("fk_forwardings_mailbox_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forwardings")),
        sa.UniqueConstraint("mailbox_id", "email", name=op.f("uq_forwardings_mailbox_id_email")),
    )
    op.create_index("ix_forwardings_domain_id", "forwardings", ["domain_id"])
    op.create_index(
        "ix_forwardings_to_request",
        "forwardings",
        ["domain_id"],
        sqlite_where=sa.text(TO_REQUEST),
        postgresql_where=sa.text(TO_REQUEST),
    )
    for column in ("organization_id", "project_id", "mailbox_id"):
        prefix = list(dict.fromkeys(("organization_id", column)))
        for order in ("created_at", "updated_at", "email"):
            op.create_index(f"ix_forwardings_{column}_{order}", "forwardings", [*prefix, order, "id", "status"])
    op.create_index("ix_forwardings_gathered", "forwardings", ["organization_id", "status", "project_id", "id"])
    op.create_table(
        "mailbox_forwardings",
        sa.Column("mailbox_id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("keep_copy", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, server_default="1"),
        sa.ForeignKeyConstraint(
            ["mailbox_id"], ["mailboxes.id"], name=op.f("fk_mailbox_forwardings_mailbox_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("mailbox_id", name=op.f("pk_mailbox_forwardings")),
    )


# --- Counts, as migration 0004 has them for the other lists -----------------------------------------------------------


def _counting_on_sqlite() -> Iterator[str]:
    keys = "organization_id, project_id, list, status"
    increment = (
        f"INSERT INTO project_counts ({keys}, count)"
        " VALUES (NEW.organization_id, NEW.project_id, 'forwardings', NEW.status, 1)"
        f" ON CONFLICT ({keys}) DO UPDATE SET count = count + 1; "
    )
    row = (
        "organization_id = OLD.organization_id AND project_id = OLD.project_id AND list = 'forwardings'"
        " AND status = OLD.status"
    )
    decrement = (
        f"UPDATE project_counts SET count = count - 1 WHERE {row}; "
        f"DELETE FROM project_counts WHERE {row} AND count = 0; "
    )
    yield f"CREATE TRIGGER count_forwardings_insert AFTER INSERT ON forwardings BEGIN {increment} END"
    yield f"CREATE TRIGGER count_forwardings_delete AFTER DELETE ON forwardings BEGIN {decrement} END"
    yield (
        "CREATE TRIGGER count_forwardings_update AFTER UPDATE OF status ON forwardings"
        f" WHEN OLD.status <> NEW.status BEGIN {decrement} {increment} END"
    )


def _counting_on_postgresql() -> Iterator[str]:
    changed = "organization_id, project_id, status"
    for event, rows in {
        "insert": {"new_rows": 1},
        "delete": {"old_rows": -1},
        "update": {"new_rows": 1, "old_rows": -1},
    }.items():
        moved = " UNION ALL ".join(f"SELECT {changed}, {sign} AS change FROM {each}" for each, sign in rows.items())
        body = (
            "INSERT INTO project_counts (organization_id, project_id, list, status, count)"
            f" SELECT organization_id, project_id, 'forwardings', status, sum(change) FROM ({moved}) AS moved"
            f" GROUP BY {changed} HAVING sum(change) <> 0 ORDER BY {changed}"
            " ON CONFLICT (organization_id, project_id, list, status)"
            " DO UPDATE SET count = project_counts.count + EXCLUDED.count; "
        )
        if "old_rows" in rows:
            body += (
                "DELETE FROM project_counts WHERE count <= 0 AND (organization_id, project_id) IN"
                " (SELECT DISTINCT organization_id, project_id FROM old_rows); "
            )
        name = f"count_forwardings_{event}"
        yield f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"
        tables = " ".join(f"{each.removesuffix('_rows').upper()} TABLE AS {each}" for each in rows)
        yield (
            f"CREATE TRIGGER {name} AFTER {event.upper()} ON forwardings REFERENCING {tables}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        )
