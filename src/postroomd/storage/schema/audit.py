"""The audit log."""

from sqlalchemy import Column, Index, String, Table

from postroomd.storage.column_types import Instant, Names
from postroomd.storage.drivers.types import ID, OCTETS
from postroomd.storage.schema.columns import identifier, metadata

# The committed changes of tenants and the operator, by the call or command that made them: ids only, no secrets. Rows
# of what belongs to no tenant have no organization.
audit_events = Table(
    "audit_events",
    metadata,
    identifier(primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", OCTETS, nullable=False),
    Column("action", String(64), nullable=False),
    Column("organization_id", ID),
    Column("project_id", ID),
    Column("resource_type", String(32), nullable=False),
    Column("resource_id", OCTETS, nullable=False),
    Column("resource_ids", Names, nullable=False),  # of all that a batch created
    Column("arguments", Names, nullable=False),  # the names of the request's fields that were set
    Column("client_address", String(45), nullable=False),
    Column("request_id", String(128), nullable=False),
)

AUDIT_FILTERS = ("resource_id", "actor", "project_id", "organization_id")
"""Columns that the list of audit events is filtered by, the most selective first: one index per column."""

Index("ix_audit_events_at", audit_events.c.at, audit_events.c.id)
for _name in AUDIT_FILTERS:
    Index(f"ix_audit_events_{_name}", audit_events.c[_name], audit_events.c.at, audit_events.c.id)
