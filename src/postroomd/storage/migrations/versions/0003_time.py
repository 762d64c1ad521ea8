"""Add payments, provisions, history, tombstones, and leases of due rows."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0003"
down_revision = "0002"

ID = sa.String(36).with_variant(UUID(as_uuid=False), "postgresql")
NAMED = sa.String(32)
INSTANT = sa.BigInteger()

OPEN = "status IN ('pending', 'refused', 'overdue')"
PENDING = "status = 'pending'"
TO_PURGE = "status = 'deleting' AND provision != 'delete_awaited'"
TO_REQUEST = "status = 'provisioning' AND provision_id IS NULL"

TENANT_TABLES = ("payments", "provisions", "transitions", "tombstones")


def upgrade() -> None:
    """Create the tables, and the columns from which a mailbox's status is derived."""
    op.add_column("domains", sa.Column("provision_id", ID))
    op.add_column("domains", sa.Column("next_check_at", INSTANT))
    _lease("domains")
    op.drop_index("ix_domains_validation_requested_at", "domains")
    _partial_index("ix_domains_next_check_at", "domains", ["next_check_at"], "next_check_at IS NOT NULL")
    # Ready domains are due at once, and periodically from then on.
    op.execute("UPDATE domains SET next_check_at = validation_requested_at WHERE validation_requested_at IS NOT NULL")
    op.execute("UPDATE domains SET next_check_at = updated_at WHERE status = 'ready' AND next_check_at IS NULL")

    op.add_column("mailboxes", sa.Column("purging", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("mailboxes", sa.Column("lock_reason", sa.Text()))
    op.add_column("mailboxes", sa.Column("payment", NAMED, nullable=False, server_default="settled"))
    op.add_column("mailboxes", sa.Column("payment_step_at", INSTANT))
    op.add_column("mailboxes", sa.Column("provision", NAMED, nullable=False, server_default="provided"))
    op.add_column("mailboxes", sa.Column("provision_id", ID))
    op.add_column("mailboxes", sa.Column("cause", NAMED, nullable=False, server_default="create"))
    _lease("mailboxes")
    _partial_index("ix_mailboxes_to_purge", "mailboxes", ["domain_id", "id"], TO_PURGE)
    op.execute(sa.text("UPDATE mailboxes SET purging = :yes WHERE status = 'deleting'").bindparams(yes=True))
    op.execute("UPDATE mailboxes SET lock_reason = '' WHERE status = 'locked'")
    # From this revision on a domain that becomes ready makes its waiting mailboxes due; domains already ready do not.
    op.execute(
        "UPDATE mailboxes SET due_at = updated_at WHERE status = 'waiting_domain'"
        " AND domain_id IN (SELECT id FROM domains WHERE status = 'ready')"
    )

    op.add_column("aliases", sa.Column("provision_id", ID))
    _partial_index("ix_aliases_to_request", "aliases", ["domain_id"], TO_REQUEST)

    _create_tables()
    if op.get_bind().dialect.name == "postgresql":
        _isolate_tenants()


def _lease(table: str) -> None:
    for name in ("claim", "failures"):
        op.add_column(table, sa.Column(name, sa.Integer(), nullable=False, server_default="0"))


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _create_tables() -> None:
    op.create_table(
        "payments",
        sa.Column("id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("mailbox_id", ID, nullable=False),
        sa.Column("period", NAMED, nullable=False),
        sa.Column("period_started_at", INSTANT, nullable=False),
        sa.Column("requested_at", INSTANT, nullable=False),
        sa.Column("overdue_at", INSTANT, nullable=False),
        sa.Column("status", NAMED, nullable=False),
        sa.Column("settled_at", INSTANT),
        sa.Column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
    )
    _partial_index("ix_payments_open", "payments", ["requested_at", "id"], OPEN)
    op.create_index("ix_payments_mailbox_id", "payments", ["mailbox_id"])
    op.create_table(
        "provisions",
        sa.Column("id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("domain_id", ID, nullable=False),
        sa.Column("mailbox_id", ID),
        sa.Column("alias_id", ID),
        sa.Column("kind", NAMED, nullable=False),
        sa.Column("status", NAMED, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("requested_at", INSTANT, nullable=False),
        sa.Column("next_attempt_at", INSTANT, nullable=False),
        sa.Column("settled_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provisions")),
    )
    _partial_index("ix_provisions_pending", "provisions", ["next_attempt_at", "id"], PENDING)
    op.create_index("ix_provisions_mailbox_id", "provisions", ["mailbox_id"])
    op.create_table(
        "transitions",
        sa.Column("mailbox_id", ID, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("domain_id", ID, nullable=False),
        sa.Column("from_status", NAMED),
        sa.Column("to_status", NAMED),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("cause", NAMED, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", "revision", name=op.f("pk_transitions")),
    )
    op.create_table(
        "tombstones",
        sa.Column("mailbox_id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("domain_id", ID, nullable=False),
        sa.Column("address_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("purged_at", INSTANT, nullable=False),
        sa.Column("cause", NAMED, nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", name=op.f("pk_tombstones")),
    )
    op.create_index("ix_tombstones_organization_id_address_hash", "tombstones", ["organization_id", "address_hash"])


def _isolate_tenants() -> None:
    for table in TENANT_TABLES:
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO postroom_tenant")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON {table} TO postroom_tenant"
            " USING (organization_id = NULLIF(current_setting('postroom.organization_id', true), '')::uuid)"
        )
