"""Aliases, and the owner of each address."""

from sqlalchemy import Column, ForeignKey, Index, Table, Text, and_

from postroomd.domain.model import AliasStatus
from postroomd.storage.column_types import Named
from postroomd.storage.drivers.types import ID, OCTETS, partial_index
from postroomd.storage.schema.columns import identifier, metadata, owner, rendered, revision, times
from postroomd.storage.schema.domains import domains
from postroomd.storage.schema.mailboxes import mailboxes

aliases = Table(
    "aliases",
    metadata,
    identifier(primary_key=True),
    *owner(),
    Column("domain_id", ID, ForeignKey(domains.c.id), nullable=False),
    Column("mailbox_id", ID, ForeignKey(mailboxes.c.id, ondelete="CASCADE"), nullable=False),
    Column("email", OCTETS, nullable=False),
    Column("description", Text, nullable=False),
    Column("status", Named(AliasStatus), nullable=False),
    *times(),
    revision(),
    Column("provision_id", ID),
)

TO_REQUEST = (
    aliases.c.status == rendered(aliases.c.status, AliasStatus.PROVISIONING),
    aliases.c.provision_id.is_(None),
)
"""Conditions: the alias awaits its provision, which is requested once its domain is ready."""

partial_index("ix_aliases_to_request", aliases.c.domain_id, where=and_(*TO_REQUEST))

Index("ix_aliases_domain_id", aliases.c.domain_id)
Index("ix_aliases_mailbox_id", aliases.c.mailbox_id)

# The owner of each address: either a mailbox or an alias. The primary key makes addresses unique.
addresses = Table(
    "addresses",
    metadata,
    Column("domain_id", ID, ForeignKey(domains.c.id), primary_key=True),
    Column("local_part", OCTETS, primary_key=True),
    identifier("organization_id"),
    Column("mailbox_id", ID, ForeignKey(mailboxes.c.id, ondelete="CASCADE"), index=True),
    Column("alias_id", ID, ForeignKey(aliases.c.id, ondelete="CASCADE"), index=True),
)
