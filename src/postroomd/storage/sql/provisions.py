"""Provisions, written with their subjects."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.provisioning import Subject, pending_provision
from postroomd.domain.provisions import ProvisionStatus
from postroomd.storage import schema as t
from postroomd.storage.sql.rows import to_row


async def store_provisions(
    connection: AsyncConnection, pairs: Sequence[tuple[Subject | None, Subject]], now: datetime
) -> None:
    """Insert the provisions that changed subjects await now, and void those that they awaited before.

    Each pair is a subject before its change, None for a new one, and after it. A confirmed provision is never changed.
    """
    changed = [(before, after) for before, after in pairs if _provision_id(before) != after.provision_id]
    await void_provisions(connection, [former for before, _ in changed if (former := _provision_id(before))], now)
    provisions = [provision for _, after in changed if (provision := pending_provision(after, now))]
    if provisions:
        await connection.execute(insert(t.provisions), [to_row(provision) for provision in provisions])


async def void_provisions(connection: AsyncConnection, provision_ids: Sequence[str], now: datetime) -> None:
    """Void those of the provisions that are pending."""
    if provision_ids:
        voiding = update(t.provisions).where(t.provisions.c.id.in_(provision_ids), t.PENDING_PROVISION)
        await connection.execute(voiding.values(status=ProvisionStatus.VOID, settled_at=now))


async def void_mailbox_provisions(connection: AsyncConnection, mailbox_ids: Sequence[str], now: datetime) -> None:
    """Void the pending provisions of purged mailboxes, their aliases and forwardings."""
    voiding = update(t.provisions).where(t.provisions.c.mailbox_id.in_(mailbox_ids), t.PENDING_PROVISION)
    await connection.execute(voiding.values(status=ProvisionStatus.VOID, settled_at=now))


def _provision_id(subject: Subject | None) -> str | None:
    return subject.provision_id if subject else None
