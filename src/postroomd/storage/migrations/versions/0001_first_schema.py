"""Add organizations, projects, API keys, domains, mailboxes and aliases."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0001"
down_revision = None

ID = sa.String(36).with_variant(UUID(as_uuid=False), "postgresql")
OCTETS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "organizations",
        sa.Column("id", ID, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organizations")),
    )
    op.create_table(
        "projects",
        sa.Column("id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mailbox_quota", sa.Integer(), nullable=False),
        sa.Column("mailbox_count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_projects_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
    )
    op.create_index(op.f("ix_projects_organization_id"), "projects", ["organization_id"])
    op.create_table(
        "api_keys",
        sa.Column("access_key", sa.String(length=20), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("secret_prefix", sa.LargeBinary(length=8), nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=True),
        sa.Column("default_project_id", ID, nullable=False),
        sa.Column("read_only", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["default_project_id"], ["projects.id"], name=op.f("fk_api_keys_default_project_id")),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_api_keys_organization_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_api_keys_project_id")),
        sa.PrimaryKeyConstraint("access_key", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_organization_id"), "api_keys", ["organization_id"])
    op.create_index(op.f("ix_api_keys_secret_prefix"), "api_keys", ["secret_prefix"])
    op.create_table(
        "domains",
        sa.Column("id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("name", OCTETS, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("mailbox_total_count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("validation_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("validation_token", sa.Text(), nullable=False),
        sa.Column("dkim_selector", sa.Text(), nullable=False),
        sa.Column("dkim_private_key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_domains_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_domains")),
        sa.UniqueConstraint("organization_id", "name", name=op.f("uq_domains_organization_id_name")),
    )
    op.create_index("ix_domains_organization_id_created_at", "domains", ["organization_id", "created_at", "id"])
    op.create_index(
        "ix_domains_organization_id_mailbox_total_count", "domains", ["organization_id", "mailbox_total_count", "id"]
    )
    op.create_index("ix_domains_organization_id_name", "domains", ["organization_id", "name", "id"])
    op.create_index("ix_domains_organization_id_updated_at", "domains", ["organization_id", "updated_at", "id"])
    op.create_index(
        "ix_domains_project_id_created_at", "domains", ["organization_id", "project_id", "created_at", "id"]
    )
    op.create_index(
        "ix_domains_project_id_mailbox_total_count",
        "domains",
        ["organization_id", "project_id", "mailbox_total_count", "id"],
    )
    op.create_index("ix_domains_project_id_name", "domains", ["organization_id", "project_id", "name", "id"])
    op.create_index(
        "ix_domains_project_id_updated_at", "domains", ["organization_id", "project_id", "updated_at", "id"]
    )
    op.create_index("ix_domains_status", "domains", ["status"])
    op.create_index(
        "ix_domains_validation_requested_at",
        "domains",
        ["validation_requested_at"],
        sqlite_where=sa.text("validation_requested_at IS NOT NULL"),
        postgresql_where=sa.text("validation_requested_at IS NOT NULL"),
    )
    op.create_index(
        "uq_domains_proved_name",
        "domains",
        ["name"],
        unique=True,
        sqlite_where=sa.text("status IN ('provisioning', 'ready')"),
        postgresql_where=sa.text("status IN ('provisioning', 'ready')"),
    )
    op.create_table(
        "domain_records",
        sa.Column("id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("domain_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("level", sa.String(32), nullable=False),
        sa.Column("dns_type", sa.String(32), nullable=False),
        sa.Column("dns_name", sa.Text(), nullable=False),
        sa.Column("dns_value", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.id"], name=op.f("fk_domain_records_domain_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_domain_records")),
        sa.UniqueConstraint("domain_id", "kind", name=op.f("uq_domain_records_domain_id_kind")),
    )
    op.create_table(
        "mailboxes",
        sa.Column("id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("domain_id", ID, nullable=False),
        sa.Column("email", OCTETS, nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("subscription_period", sa.String(32), nullable=False),
        sa.Column("last_paid_period", sa.String(32), nullable=False),
        sa.Column("period_anchor_at", sa.BigInteger(), nullable=False),
        sa.Column("subscription_period_started_at", sa.BigInteger(), nullable=False),
        sa.Column("next_subscription_period", sa.String(32), nullable=False),
        sa.Column("next_subscription_period_starts_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("deletion_scheduled_at", sa.BigInteger(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name=op.f("fk_mailboxes_domain_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mailboxes")),
    )
    op.create_index(
        "ix_mailboxes_domain_id_created_at", "mailboxes", ["organization_id", "domain_id", "created_at", "id"]
    )
    op.create_index("ix_mailboxes_domain_id_email", "mailboxes", ["organization_id", "domain_id", "email", "id"])
    op.create_index(
        "ix_mailboxes_domain_id_updated_at", "mailboxes", ["organization_id", "domain_id", "updated_at", "id"]
    )
    op.create_index("ix_mailboxes_due_at", "mailboxes", ["due_at"])
    op.create_index("ix_mailboxes_organization_id_created_at", "mailboxes", ["organization_id", "created_at", "id"])
    op.create_index("ix_mailboxes_organization_id_email", "mailboxes", ["organization_id", "email", "id"])
    op.create_index("ix_mailboxes_organization_id_updated_at", "mailboxes", ["organization_id", "updated_at", "id"])
    op.create_index(
        "ix_mailboxes_project_id_created_at", "mailboxes", ["organization_id", "project_id", "created_at", "id"]
    )
    op.create_index("ix_mailboxes_project_id_email", "mailboxes", ["organization_id", "project_id", "email", "id"])
    op.create_index(
        "ix_mailboxes_project_id_updated_at", "mailboxes", ["organization_id", "project_id", "updated_at", "id"]
    )
    op.create_index(
        "ix_mailboxes_waiting",
        "mailboxes",
        ["domain_id"],
        sqlite_where=sa.text("status = 'waiting_domain'"),
        postgresql_where=sa.text("status = 'waiting_domain'"),
    )
    op.create_table(
        "aliases",
        sa.Column("id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("domain_id", ID, nullable=False),
        sa.Column("mailbox_id", ID, nullable=False),
        sa.Column("email", OCTETS, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name=op.f("fk_aliases_domain_id")),
        sa.ForeignKeyConstraint(
            ["mailbox_id"], ["mailboxes.id"], name=op.f("fk_aliases_mailbox_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_aliases")),
    )
    op.create_index(
        "ix_aliases_mailbox_id_created_at", "aliases", ["organization_id", "mailbox_id", "created_at", "id"]
    )
    op.create_index("ix_aliases_mailbox_id_email", "aliases", ["organization_id", "mailbox_id", "email", "id"])
    op.create_index(
        "ix_aliases_mailbox_id_updated_at", "aliases", ["organization_id", "mailbox_id", "updated_at", "id"]
    )
    op.create_index("ix_aliases_organization_id_created_at", "aliases", ["organization_id", "created_at", "id"])
    op.create_index("ix_aliases_organization_id_email", "aliases", ["organization_id", "email", "id"])
    op.create_index("ix_aliases_organization_id_updated_at", "aliases", ["organization_id", "updated_at", "id"])
    op.create_index(
        "ix_aliases_project_id_created_at", "aliases", ["organization_id", "project_id", "created_at", "id"]
    )
    op.create_index("ix_aliases_project_id_email", "aliases", ["organization_id", "project_id", "email", "id"])
    op.create_index(
        "ix_aliases_project_id_updated_at", "aliases", ["organization_id", "project_id", "updated_at", "id"]
    )
    op.create_table(
        "addresses",
        sa.Column("domain_id", ID, nullable=False),
        sa.Column("local_part", OCTETS, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("mailbox_id", ID, nullable=True),
        sa.Column("alias_id", ID, nullable=True),
        sa.ForeignKeyConstraint(["alias_id"], ["aliases.id"], name=op.f("fk_addresses_alias_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name=op.f("fk_addresses_domain_id")),
        sa.ForeignKeyConstraint(
            ["mailbox_id"], ["mailboxes.id"], name=op.f("fk_addresses_mailbox_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("domain_id", "local_part", name=op.f("pk_addresses")),
    )
    op.create_index(op.f("ix_addresses_alias_id"), "addresses", ["alias_id"])
    op.create_index(op.f("ix_addresses_mailbox_id"), "addresses", ["mailbox_id"])
    op.create_index("ix_mailboxes_domain_id", "mailboxes", ["domain_id"])
    op.create_index("ix_aliases_domain_id", "aliases", ["domain_id"])
    op.create_index("ix_aliases_mailbox_id", "aliases", ["mailbox_id"])
    op.create_index("ix_domains_project_id", "domains", ["project_id"])
