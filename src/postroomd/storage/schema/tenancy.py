"""Organizations, projects and keys."""

from sqlalchemy import Boolean, Column, ForeignKey, Integer, LargeBinary, String, Table, Text, false, text

from postroomd.storage.column_types import Instant
from postroomd.storage.drivers.types import ID
from postroomd.storage.schema.columns import identifier, metadata

organizations = Table(
    "organizations",
    metadata,
    identifier(primary_key=True),
    Column("created_at", Instant, nullable=False),
    Column("name", Text, nullable=False, server_default=text("''")),
)

projects = Table(
    "projects",
    metadata,
    identifier(primary_key=True),
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
