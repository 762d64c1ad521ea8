"""Responses to calls with an idempotency key."""

from sqlalchemy import Column, LargeBinary, String, Table

from postroomd.storage.column_types import Instant
from postroomd.storage.drivers.types import ID, OCTETS
from postroomd.storage.schema.columns import metadata

# Responses to calls with an idempotency key. A key belongs to the scope of its caller: the organization, or the project
# that the API key is limited to ("" for none).
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("organization_id", ID, primary_key=True),
    Column("project_scope", String(36), primary_key=True),
    Column("key", OCTETS, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),  # HMAC-SHA-256 of RPC and request, by the secret
    # The response, in protobuf; empty for a call that changed nothing and whose response can be read again.
    Column("answer", LargeBinary, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
)
