"""The states that the mail platform is to give mailboxes, read when their provisions are listed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.mailbox_updates import platform_access
from postroomd.domain.model import AliasStatus, ForwardingStatus, Mailbox
from postroomd.domain.provisions import MailboxState, Provision, ProvisionKind
from postroomd.storage import schema as t
from postroomd.storage.sql.mailboxes import MAILBOX
from postroomd.storage.sql.rows import from_row


async def with_states(connection: AsyncConnection, provisions: Sequence[Provision]) -> list[Provision]:
    """Return provisions with the states of the mailboxes that are their subjects, in one read of each table."""
    ids = sorted({each.mailbox_id for each in provisions if each.mailbox_id and _has_state(each)})
    if not ids:
        return list(provisions)
    aliases = await _addresses(connection, t.aliases, AliasStatus.DELETING, ids)
    forwardings = await _addresses(connection, t.forwardings, ForwardingStatus.DELETING, ids)
    columns = t.mailbox_forwardings.c
    query = select(columns.mailbox_id, columns.keep_copy, columns.enabled).where(columns.mailbox_id.in_(ids))
    settings = {row.mailbox_id: (row.keep_copy, row.enabled) for row in await connection.execute(query)}
    states = {}
    mailboxes = select(*[*MAILBOX, t.mailboxes.c.password_hash]).where(t.mailboxes.c.id.in_(ids))
    for row in await connection.execute(mailboxes):
        mailbox = from_row(Mailbox, row)
        access = platform_access(mailbox)
        keep_copy, enabled = settings.get(mailbox.id, (True, True))
        states[mailbox.id] = MailboxState(
            generation=mailbox.revision,
            address=mailbox.email,
            login_allowed=access.log_in,
            sending_allowed=access.send,
            receiving_allowed=access.receive,
            password_hash=row.password_hash,
            aliases=aliases.get(mailbox.id, ()),
            forwardings=forwardings.get(mailbox.id, ()),
            forwarding_keep_copy=keep_copy,
            forwarding_enabled=enabled and access.forward,
            storage_quota_bytes=mailbox.storage_quota_bytes,
            display_name=mailbox.display_name,
        )
    return [
        replace(each, mailbox_state=states.get(each.mailbox_id or "")) if _has_state(each) else each
        for each in provisions
    ]


def _has_state(provision: Provision) -> bool:
    is_mailbox = provision.alias_id is None and provision.forwarding_id is None
    return is_mailbox and provision.kind is not ProvisionKind.DELETE


async def _addresses(
    connection: AsyncConnection, table: Table, gone: AliasStatus | ForwardingStatus, mailbox_ids: Sequence[str]
) -> Mapping[str, tuple[str, ...]]:
    """Return the ordered addresses of each mailbox's aliases or forwardings, without those being deleted."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    query = select(table.c.mailbox_id, table.c.email).where(table.c.mailbox_id.in_(mailbox_ids), table.c.status != gone)
    for row in await connection.execute(query):
        found[row.mailbox_id].append(row.email)
    return {mailbox_id: tuple(sorted(emails)) for mailbox_id, emails in found.items()}
