"""What triggers derive from the rows of other tables."""

from sqlalchemy import BigInteger, Column, Integer, String, Table

from postroomd.storage.drivers.types import ID
from postroomd.storage.schema.columns import identifier, metadata

# Total counts of lists by project, resource and status, and by domain and status. Triggers maintain both (migrations
# 0004 and 0009), so that no writer can forget them, and delete rows whose count becomes 0. A total adds up a few rows
# however many domains there are. A change of status locks its rows until the commit: on PostgreSQL such changes of one
# project are serialized, as its creations are.
project_counts = Table(
    "project_counts",
    metadata,
    Column("organization_id", ID, primary_key=True),
    Column("project_id", ID, primary_key=True),
    Column("list", String(32), primary_key=True),  # the counted table
    Column("status", String(32), primary_key=True),
    Column("count", Integer, nullable=False),
)

# Counts of the mailboxes of each domain.
domain_counts = Table(
    "domain_counts",
    metadata,
    Column("organization_id", ID, primary_key=True),
    Column("domain_id", ID, primary_key=True),
    Column("status", String(32), primary_key=True),
    identifier("project_id"),
    Column("count", Integer, nullable=False),
)

# How much an organization, or one of its mailboxes, has of what a quota limits. Triggers maintain it (migration 0012).
quota_usage = Table(
    "quota_usage",
    metadata,
    Column("organization_id", ID, primary_key=True),
    Column("resource", String(32), primary_key=True),  # the counted table
    Column("subject_id", ID, primary_key=True),  # the organization, or the mailbox of aliases
    Column("count", Integer, nullable=False),
    Column("octets", BigInteger, nullable=False),  # of keys, digests and responses in idempotency_keys; else 0
)

DERIVED_TABLES = (project_counts, domain_counts, quota_usage)
"""Tables that triggers maintain from the rows of others. Copying those rows fills them."""
