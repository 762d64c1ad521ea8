"""Forwardings, and their settings per mailbox."""

from sqlalchemy import Boolean, Column, ForeignKey, Index, Table, UniqueConstraint, and_

from postroomd.domain.model import ForwardingStatus
from postroomd.storage.column_types import Named
from postroomd.storage.drivers.types import ID, OCTETS, partial_index
from postroomd.storage.schema.columns import identifier, metadata, owner, rendered, revision, times
from postroomd.storage.schema.domains import domains
from postroomd.storage.schema.mailboxes import mailboxes

forwardings = Table(
    "forwardings",
    metadata,
    identifier(primary_key=True),
    *owner(),
    Column("domain_id", ID, ForeignKey(domains.c.id), nullable=False),
    Column("mailbox_id", ID, ForeignKey(mailboxes.c.id, ondelete="CASCADE"), nullable=False),
    Column("email", OCTETS, nullable=False),  # the destination
    Column("status", Named(ForwardingStatus), nullable=False),
    *times(),
    revision(),
    Column("provision_id", ID),
    UniqueConstraint("mailbox_id", "email"),
)

FORWARDINGS_TO_REQUEST = (
    forwardings.c.status == rendered(forwardings.c.status, ForwardingStatus.PROVISIONING),
    forwardings.c.provision_id.is_(None),
)
"""Conditions: the forwarding awaits its provision, which is requested once its domain is ready."""

partial_index("ix_forwardings_to_request", forwardings.c.domain_id, where=and_(*FORWARDINGS_TO_REQUEST))

# The settings of each mailbox's forwardings, once they have been changed. Others have those of `default_settings`.
mailbox_forwardings = Table(
    "mailbox_forwardings",
    metadata,
    Column("mailbox_id", ID, ForeignKey(mailboxes.c.id, ondelete="CASCADE"), primary_key=True),
    *owner(),
    Column("keep_copy", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    *times(),
    revision(),
)

Index("ix_forwardings_domain_id", forwardings.c.domain_id)
