"""The mail platform's work, as rows beside what it is about."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.provisioning import Subject, pending_provision
from postroomd.domain.provisions import ProvisionStatus
from postroomd.storage import schema as t
from postroomd.storage.sql.rows import stored_values_of


async def store_provisions(
    connection: AsyncConnection, pairs: Sequence[tuple[Subject | None, Subject]], now: datetime
) -> None:
    """Ask for the work that subjects have come to wait for, and make that void which they wait for no more.

    Each pair is a subject before its change, None for a new one, and after it. What has been confirmed stays so.
    """
    changed = [(before, after) for before, after in pairs if _awaited(before) != after.provision_id]
    await void_provisions(connection, [work for before, _ in changed if (work := _awaited(before))], now)
    asked = [provision for _, after in changed if (provision := pending_provision(after, now))]
    if asked:
        await connection.execute(insert(t.provisions), [stored_values_of(provision) for provision in asked])


async def void_provisions(connection: AsyncConnection, provision_ids: Sequence[str], now: datetime) -> None:
    """Have nobody wait for work that is pending."""
    if provision_ids:
        pending = update(t.provisions).where(t.provisions.c.id.in_(provision_ids), t.PENDING_PROVISION)
        await connection.execute(pending.values(status=ProvisionStatus.VOID, settled_at=now))


async def void_provisions_of(connection: AsyncConnection, mailbox_ids: Sequence[str], now: datetime) -> None:
    """Have nobody wait for work on mailboxes that are gone, nor on their aliases."""
    pending = update(t.provisions).where(t.provisions.c.mailbox_id.in_(mailbox_ids), t.PENDING_PROVISION)
    await connection.execute(pending.values(status=ProvisionStatus.VOID, settled_at=now))


def _awaited(subject: Subject | None) -> str | None:
    return subject.provision_id if subject else None
