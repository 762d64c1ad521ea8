"""The count of a project's mailboxes that its quota limits.

Transactions write it before the mailboxes, whose triggers write other counts of the project: two orders could deadlock.
"""

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.errors import QuotaExceeded, ResourceName
from postroomd.domain.model import Domain, Mailbox, MailboxStatus
from postroomd.storage import schema as t


async def take_quota(connection: AsyncConnection, owner: Domain | Mailbox, count: int) -> None:
    """Add mailboxes to the count of the owner's project. Raises QuotaExceeded.

    The UPDATE itself has the condition: of two transactions that race for the last place, the second matches no row.
    """
    columns = t.projects.c
    project = (columns.id == owner.project_id, columns.organization_id == owner.organization_id)
    new_count = columns.mailbox_count + count
    counting = update(t.projects).where(*project, new_count <= columns.mailbox_quota)
    if (await connection.execute(counting.values(mailbox_count=new_count))).rowcount == 0:
        quota, current = (
            await connection.execute(select(columns.mailbox_quota, columns.mailbox_count).where(*project))
        ).one()
        scheduled = await _count_scheduled(connection, owner)
        raise QuotaExceeded("mailboxes", quota, current, ResourceName("project", owner.project_id), scheduled)


async def add_to_quota(connection: AsyncConnection, owner: Domain | Mailbox, count: int) -> None:
    """Add a number of mailboxes, or subtract a negative one, whatever the quota of the owner's project is."""
    columns = t.projects.c
    await connection.execute(
        update(t.projects)
        .where(columns.id == owner.project_id, columns.organization_id == owner.organization_id)
        .values(mailbox_count=columns.mailbox_count + count)
    )


async def move_quota(connection: AsyncConnection, before: Mailbox, after: Mailbox) -> None:
    """Adjust the count for a changed mailbox. Raises QuotaExceeded for a restored one.

    A payment that is confirmed after the deletion exceeds the quota if need be: it can't be undone.
    """
    if before.counts_towards_quota == after.counts_towards_quota:
        return
    if not after.counts_towards_quota:
        await add_to_quota(connection, after, -1)
    elif after.status is MailboxStatus.DELETION_SCHEDULED:
        await add_to_quota(connection, after, 1)
    else:
        await take_quota(connection, after, 1)


async def release_unpaid(connection: AsyncConnection, domain: Domain) -> None:
    """Subtract the domain's mailboxes that were never paid for, and are in use, before all of them are deleted."""
    columns = t.mailboxes.c
    unpaid = select(func.count()).where(
        columns.organization_id == domain.organization_id,
        columns.project_id == domain.project_id,
        columns.domain_id == domain.id,
        *t.NEVER_PAID,
        columns.status.not_in((MailboxStatus.DELETION_SCHEDULED, MailboxStatus.DELETING)),
    )
    if count := int((await connection.execute(unpaid)).scalar_one()):
        await add_to_quota(connection, domain, -count)


async def _count_scheduled(connection: AsyncConnection, owner: Domain | Mailbox) -> int:
    """Return how many of the project's counted mailboxes are scheduled for deletion."""
    counts, columns = t.project_counts.c, t.mailboxes.c
    all_scheduled = select(func.coalesce(func.sum(counts["count"]), 0)).where(
        counts.organization_id == owner.organization_id,
        counts.project_id == owner.project_id,
        counts.list == t.mailboxes.name,
        counts.status == MailboxStatus.DELETION_SCHEDULED,
    )
    not_counted = select(func.count()).where(
        columns.organization_id == owner.organization_id,
        columns.project_id == owner.project_id,
        columns.status == MailboxStatus.DELETION_SCHEDULED,
        *t.NEVER_PAID,
    )
    query = select(all_scheduled.scalar_subquery() - not_counted.scalar_subquery())
    return int((await connection.execute(query)).scalar_one())
