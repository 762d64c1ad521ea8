"""Due work of every tenant: leases, and the transactions of the worker's steps."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Column, ColumnElement, Table, delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import WORKER
from postroomd.domain.mailboxes import due_at
from postroomd.domain.model import Domain, Mailbox
from postroomd.storage import schema as t
from postroomd.storage.protocols.rules import MailboxStep
from postroomd.storage.protocols.work import Due, MailboxLease
from postroomd.storage.sql.batches import LockedBatch, write_batch
from postroomd.storage.sql.changes import purge_mailboxes, store_mailbox
from postroomd.storage.sql.domain_work import SqlDomainWork
from postroomd.storage.sql.domains import DOMAIN, lock_domain
from postroomd.storage.sql.due import fetch_due
from postroomd.storage.sql.leases import in_order, lease_rows, postpone_row
from postroomd.storage.sql.mailboxes import MAILBOX
from postroomd.storage.sql.rows import from_row, row_filter, with_next_revision


class SqlWork(SqlDomainWork):
    """Due work of every tenant. Limits bound one transaction, not the work."""

    async def next_due(
        self,
        *,
        with_provisions: bool = False,
        with_session_ends: bool = False,
        history_retention: timedelta | None = None,
        audit_retention: timedelta | None = None,
    ) -> Due:
        """Return the earliest due dates, by one statement that indexes serve."""
        fetch = partial(
            fetch_due,
            with_provisions=with_provisions,
            with_session_ends=with_session_ends,
            history_retention=history_retention,
            audit_retention=audit_retention,
        )
        return await self._database.read(fetch)

    async def lease_mailboxes(
        self, now: datetime, lease: timedelta, limit: int, skipping: Collection[str] = ()
    ) -> Sequence[MailboxLease]:
        """Lease mailboxes whose step is due, the longest overdue first. Raises RowFailed."""

        async def work(connection: AsyncConnection, batch: LockedBatch) -> list[MailboxLease]:
            columns = t.mailboxes.c
            ids = await lease_rows(connection, batch, t.mailboxes, columns.due_at, now, lease)
            if not ids:
                return []
            domain_status = t.domains.c.status.label("domain_status")
            listing = (
                select(*[*MAILBOX, columns.claim, columns.failures, domain_status])
                .join(t.domains, t.domains.c.id == columns.domain_id)
                .where(columns.id.in_(ids))
            )
            rows = in_order(ids, (await connection.execute(listing)).all())
            return [MailboxLease(from_row(Mailbox, row), row.domain_status, row.claim, row.failures) for row in rows]

        return await write_batch(self._database, work, limit, skipping)

    async def advance(self, lease: MailboxLease, rule: MailboxStep, now: datetime) -> bool:
        """Apply a rule to a mailbox in one transaction; purge it if the rule returns None.

        Returns False if the mailbox is gone or the lease is superseded.
        """

        async def work(connection: AsyncConnection) -> bool:
            if rule(lease.mailbox, lease.domain_status) is None:
                # A purge is expected. Lock the domain first, as creations do: another order could deadlock.
                await lock_domain(connection, lease.mailbox.domain_id)
            held = (*row_filter(t.mailboxes, lease.mailbox), t.mailboxes.c.claim == lease.generation)
            locking = select(*MAILBOX).where(*held).with_for_update()
            row = (await connection.execute(locking)).one_or_none()
            if row is None:
                return False
            stored = from_row(Mailbox, row)
            domain = await _fetch_domain_of(connection, stored)
            changed = rule(stored, domain.status)
            if changed is None:
                await lock_domain(connection, domain.id)
                await purge_mailboxes(connection, WORKER.actor, domain, [stored], now)
            elif changed is not stored:
                await store_mailbox(connection, WORKER.actor, stored, with_next_revision(changed))
            else:
                scheduling = update(t.mailboxes).where(*row_filter(t.mailboxes, stored))
                await connection.execute(scheduling.values(due_at=due_at(stored), failures=0))
            return True

        return await self._database.write(work, WORKER)

    async def postpone_mailbox(self, lease: MailboxLease, until: datetime) -> None:
        """Count a failed step, and make the next attempt due at an instant."""
        columns = t.mailboxes.c
        held = (*row_filter(t.mailboxes, lease.mailbox), columns.claim == lease.generation)
        await postpone_row(self._database, update(t.mailboxes).where(*held, columns.due_at.is_not(None)), due_at=until)

    async def remove_expired_responses(self, now: datetime, limit: int) -> int:
        """Remove stored responses of idempotency keys that have expired. Returns their number."""

        async def work(connection: AsyncConnection) -> int:
            columns = t.idempotency_keys.c
            key, expired = (columns.organization_id, columns.project_scope, columns.key), columns.expires_at <= now
            rows = (await connection.execute(select(*key).where(expired).limit(limit))).all()
            if rows:
                selected = tuple_(*key).in_([tuple(row) for row in rows])
                await connection.execute(delete(t.idempotency_keys).where(selected, expired))
            return len(rows)

        return await self._database.write(work, WORKER)

    async def remove_history(self, until: datetime, limit: int) -> int:
        """Remove up to `limit` rows of each kind of history that are not younger than an instant."""

        async def work(connection: AsyncConnection) -> int:
            removed = 0
            for table, since, conditions in t.HISTORY:
                removed += await _remove_oldest(connection, table, since, conditions, until, limit)
            return removed

        return await self._database.write(work, WORKER)

    async def remove_audit_events(self, until: datetime, limit: int) -> int:
        """Remove up to `limit` audit events that are not younger than an instant. Returns their number."""

        async def work(connection: AsyncConnection) -> int:
            return await _remove_oldest(connection, t.audit_events, t.audit_events.c.at, (), until, limit)

        return await self._database.write(work, WORKER)


async def _remove_oldest(
    connection: AsyncConnection,
    table: Table,
    since: Column[datetime],
    conditions: Sequence[ColumnElement[bool]],
    until: datetime,
    limit: int,
) -> int:
    """Remove up to `limit` rows that meet the conditions and are not younger than an instant. Returns their number."""
    key = list(table.primary_key)
    removable = (since <= until, *conditions)
    rows = (await connection.execute(select(*key).where(*removable).order_by(since).limit(limit))).all()
    if rows:
        selected = tuple_(*key).in_([tuple(row) for row in rows])
        await connection.execute(delete(table).where(selected, *removable))
    return len(rows)


async def _fetch_domain_of(connection: AsyncConnection, mailbox: Mailbox) -> Domain:
    fetching = select(*DOMAIN).where(
        t.domains.c.id == mailbox.domain_id, t.domains.c.organization_id == mailbox.organization_id
    )
    return from_row(Domain, (await connection.execute(fetching)).one())
