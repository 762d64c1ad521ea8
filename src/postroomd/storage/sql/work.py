"""What the worker does by itself, for every tenant."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Row, Table, bindparam, delete, func, null, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.aliases import request_alias
from postroomd.domain.context import WORKER
from postroomd.domain.domains import move_domain, next_check_at
from postroomd.domain.events import DomainEvent
from postroomd.domain.mailboxes import due_at
from postroomd.domain.model import Alias, Domain, DomainStatus, Mailbox, RecordStatus
from postroomd.domain.records import NAME_IS_PROVED_ELSEWHERE, Finding, Outcome, validation_event
from postroomd.domain.transitions import DOMAIN_TRANSITIONS
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.protocols.rules import DomainPurgeRule, MailboxStep, PurgeRule
from postroomd.storage.protocols.work import DomainLease, Due, MailboxLease
from postroomd.storage.sql.aliases import ALIAS, store_alias
from postroomd.storage.sql.batches import Chunk, write_batch
from postroomd.storage.sql.changes import purge_mailboxes, store_mailbox
from postroomd.storage.sql.domains import DOMAIN, fetch_records, lock_domain, store_domain
from postroomd.storage.sql.mailboxes import MAILBOX
from postroomd.storage.sql.rows import from_row, row_filter, with_next_revision


class SqlWork:
    """What the worker does by itself, for every tenant. Limits bound one transaction, not the work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def next_due(self, *, platform: bool = True) -> Due:
        """When there is something to do next: one look, which an index answers."""
        asked = null() if platform else _first(t.provisions.c.next_attempt_at, t.PENDING_PROVISION)

        async def work(connection: AsyncConnection) -> Due:
            row = (
                await connection.execute(
                    select(
                        _first(t.domains.c.next_check_at).label("lookups"),
                        _first(t.mailboxes.c.due_at).label("mailboxes"),
                        _first(t.idempotency_keys.c.expires_at).label("keys"),
                        asked.label("provisions"),
                        _some(_of_status(DomainStatus.PROVISIONING)).label("provisioning"),
                        _some(*_PURGEABLE).label("purges"),
                    )
                )
            ).one()
            steps = min(filter(None, (row.mailboxes, row.keys, row.provisions)), default=None)
            return Due(row.lookups, steps, immediate=bool(row.provisioning or row.purges))

        return await self._database.read(work)

    # --- Domains ------------------------------------------------------------------------------------------------------

    async def lease_domains(
        self, now: datetime, lease: timedelta, limit: int, skipping: Collection[str] = ()
    ) -> Sequence[DomainLease]:
        """Domains whose records are to be looked up by now, the longest waiting first. Raises RowFailed."""

        async def work(connection: AsyncConnection, chunk: Chunk) -> list[DomainLease]:
            columns = t.domains.c
            ids = await _leased(connection, chunk, t.domains, columns.next_check_at, now, lease)
            if not ids:
                return []
            listing = select(*[*DOMAIN, columns.claim, columns.failures]).where(columns.id.in_(ids))
            rows = _in_order(ids, (await connection.execute(listing)).all())
            domains = [from_row(Domain, row) for row in rows]
            return [
                DomainLease(domain, await fetch_records(connection, domain), row.claim, row.failures)
                for domain, row in zip(domains, rows, strict=True)
            ]

        return await write_batch(self._database, work, limit, skipping)

    async def settle_validation(
        self, claim: DomainLease, findings: Mapping[str, Finding], interval: timedelta, now: datetime
    ) -> Domain:
        """Store what was found of a domain's records by kind, and move the domain where it still waits for that."""

        async def work(connection: AsyncConnection) -> Domain:
            stored = await lock_domain(connection, claim.domain.id, t.domains.c.claim == claim.generation)
            if stored is None:
                return claim.domain
            records = await fetch_records(connection, stored)
            found = dict(findings)
            event = validation_event(records, found)
            proved = "domain_validation" in found and found["domain_validation"].outcome is Outcome.PRESENT
            claims = proved and event is not DomainEvent.RECORDS_INVALID and stored.status in DOMAIN_TRANSITIONS[event]
            if claims and await _proved_elsewhere(connection, stored):
                event = DomainEvent.RECORDS_INVALID
                found["domain_validation"] = Finding(RecordStatus.INVALID, NAME_IS_PROVED_ELSEWHERE)
            for kind, finding in found.items():
                record = records[kind]
                if (record.status, record.error) != (finding.status, finding.error):
                    changing = update(t.domain_records).where(t.domain_records.c.id == record.id)
                    await connection.execute(
                        changing.values(status=finding.status, error=finding.error, updated_at=now)
                    )
            settled = move_domain(stored, event, now)
            if settled is not stored:
                settled = with_next_revision(settled)
                await store_domain(connection, stored, settled)
            answered = {
                "validation_requested_at": None,
                "next_check_at": next_check_at(settled, interval, now),
                "failures": 0,
            }
            await connection.execute(update(t.domains).where(*row_filter(t.domains, stored)).values(answered))
            return settled

        return await self._database.write(work, WORKER)

    async def postpone_domain(self, claim: DomainLease, until: datetime) -> None:
        """Count a failed look-up, and have the domain looked up again at an instant."""
        columns = t.domains.c
        held = (*row_filter(t.domains, claim.domain), columns.claim == claim.generation)
        await self._put_off(update(t.domains).where(*held, columns.next_check_at.is_not(None)), next_check_at=until)

    async def finish_provisioning(
        self, interval: timedelta, now: datetime, limit: int, skipping: Collection[str] = ()
    ) -> int:
        """Make provisioned domains ready, and the mailboxes due that wait for them. Answers how many domains.

        Raises RowFailed.
        """

        async def work(connection: AsyncConnection, chunk: Chunk) -> int:
            waiting = select(t.domains.c.id).where(_of_status(DomainStatus.PROVISIONING))
            ids = await chunk.take(connection, waiting, t.domains)
            for row in (await connection.execute(select(*DOMAIN).where(t.domains.c.id.in_(ids)))).all():
                domain = from_row(Domain, row)
                if await _request_aliases(connection, domain, now, limit) == limit:
                    continue  # the rest comes with the next call
                ready = with_next_revision(move_domain(domain, DomainEvent.PROVISIONED, now))
                await store_domain(connection, domain, ready)
                checking = update(t.domains).where(*row_filter(t.domains, ready))
                await connection.execute(checking.values(next_check_at=next_check_at(ready, interval, now)))
                admitting = update(t.mailboxes).where(t.mailboxes.c.domain_id == ready.id, t.WAITING)
                await connection.execute(admitting.values(due_at=now))
            return len(ids)

        return await write_batch(self._database, work, limit, skipping)

    # --- Mailboxes ----------------------------------------------------------------------------------------------------

    async def lease_mailboxes(
        self, now: datetime, lease: timedelta, limit: int, skipping: Collection[str] = ()
    ) -> Sequence[MailboxLease]:
        """Mailboxes whose next step is due, the longest overdue first. Raises RowFailed."""

        async def work(connection: AsyncConnection, chunk: Chunk) -> list[MailboxLease]:
            columns = t.mailboxes.c
            ids = await _leased(connection, chunk, t.mailboxes, columns.due_at, now, lease)
            if not ids:
                return []
            domain_status = t.domains.c.status.label("domain_status")
            listing = (
                select(*[*MAILBOX, columns.claim, columns.failures, domain_status])
                .join(t.domains, t.domains.c.id == columns.domain_id)
                .where(columns.id.in_(ids))
            )
            rows = _in_order(ids, (await connection.execute(listing)).all())
            return [MailboxLease(from_row(Mailbox, row), row.domain_status, row.claim, row.failures) for row in rows]

        return await write_batch(self._database, work, limit, skipping)

    async def advance(self, claim: MailboxLease, rule: MailboxStep, now: datetime) -> bool:
        """Apply a rule to a mailbox in one transaction; None purges it.

        False where it is gone, or another worker has it.
        """

        async def work(connection: AsyncConnection) -> bool:
            if rule(claim.mailbox, claim.domain_status) is None:
                # It will be purged, if nothing has come in between. The row of the counts comes first, as where
                # mailboxes are created: two orders could deadlock.
                await lock_domain(connection, claim.mailbox.domain_id)
            held = (*row_filter(t.mailboxes, claim.mailbox), t.mailboxes.c.claim == claim.generation)
            finding = select(*MAILBOX).where(*held).with_for_update()
            row = (await connection.execute(finding)).one_or_none()
            if row is None:
                return False
            stored = from_row(Mailbox, row)
            domain = await _domain_of(connection, stored)
            changed = rule(stored, domain.status)
            if changed is None:
                await lock_domain(connection, domain.id)
                await purge_mailboxes(connection, WORKER.actor, domain, [stored], now)
            elif changed is not stored:
                await store_mailbox(connection, WORKER.actor, stored, with_next_revision(changed))
            else:
                resting = update(t.mailboxes).where(*row_filter(t.mailboxes, stored))
                await connection.execute(resting.values(due_at=due_at(stored), failures=0))
            return True

        return await self._database.write(work, WORKER)

    async def postpone_mailbox(self, claim: MailboxLease, until: datetime) -> None:
        """Count a failed step, and have the mailbox taken up again at an instant."""
        columns = t.mailboxes.c
        held = (*row_filter(t.mailboxes, claim.mailbox), columns.claim == claim.generation)
        await self._put_off(update(t.mailboxes).where(*held, columns.due_at.is_not(None)), due_at=until)

    async def _put_off(self, changing: Any, **until: datetime) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(changing.values(failures=changing.table.c.failures + 1, **until))

        await self._database.write(work, WORKER)

    # --- What goes ----------------------------------------------------------------------------------------------------

    async def purge_domains(
        self,
        mailbox_rule: PurgeRule,
        domain_rule: DomainPurgeRule,
        now: datetime,
        limit: int,
        skipping: Collection[str] = (),
    ) -> int:
        """Apply a rule to up to `limit` mailboxes of a deleting domain, or one to such a domain that has none left.

        Raises RowFailed for the domain.
        """

        async def work(connection: AsyncConnection, chunk: Chunk) -> int:
            ids = await chunk.take(connection, select(t.domains.c.id).where(*_PURGEABLE), t.domains)
            if not ids:
                return 0
            domain = from_row(Domain, (await connection.execute(select(*DOMAIN).where(t.domains.c.id.in_(ids)))).one())
            listing = select(*MAILBOX).where(t.mailboxes.c.domain_id == domain.id, *t.TO_PURGE).limit(limit)
            mailboxes = [from_row(Mailbox, row) for row in await connection.execute(listing.with_for_update())]
            gone = []
            for mailbox in mailboxes:
                changed = mailbox_rule(mailbox)
                if changed is None:
                    gone.append(mailbox)
                elif changed is not mailbox:
                    await store_mailbox(connection, WORKER.actor, mailbox, with_next_revision(changed))
            if gone:
                await purge_mailboxes(connection, WORKER.actor, domain, gone, now)
            if mailboxes:
                return len(mailboxes)
            left = domain_rule(domain)
            if left is None:
                await connection.execute(delete(t.domains).where(*row_filter(t.domains, domain)))
            else:
                await store_domain(connection, domain, with_next_revision(left))
            return 1

        return await write_batch(self._database, work, 1, skipping)

    async def delete_expired_responses(self, now: datetime, limit: int) -> int:
        """Drop answers under idempotency keys that have expired. Answers how many."""

        async def work(connection: AsyncConnection) -> int:
            keys = t.idempotency_keys
            expired = select(keys.c.organization_id, keys.c.project_scope, keys.c.key).where(keys.c.expires_at <= now)
            rows = (await connection.execute(expired.limit(limit))).all()
            if rows:
                these = tuple_(keys.c.organization_id, keys.c.project_scope, keys.c.key).in_([tuple(r) for r in rows])
                await connection.execute(delete(keys).where(these, keys.c.expires_at <= now))
            return len(rows)

        return await self._database.write(work, WORKER)


async def _leased(
    connection: AsyncConnection, chunk: Chunk, table: Table, due: Column[Any], now: datetime, lease: timedelta
) -> Sequence[str]:
    """The ids of rows that are due, the longest overdue first, each given away once more until the lease ends."""
    ids = await chunk.take(connection, select(table.c.id).where(due <= now).order_by(due), table)
    if ids:
        given = {due: now + lease, table.c.claim: table.c.claim + 1}
        await connection.execute(update(table).where(table.c.id.in_(ids)).values(given))
    return ids


def _in_order(ids: Sequence[str], rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Rows in the order of their ids."""
    found = {row.id: row for row in rows}
    return [found[each] for each in ids]


async def _request_aliases(connection: AsyncConnection, domain: Domain, now: datetime, limit: int) -> int:
    """Ask the mail platform for aliases that waited for their domain. Its row is locked: none is made meanwhile."""
    waiting = select(*ALIAS).where(t.aliases.c.domain_id == domain.id, *t.TO_REQUEST).limit(limit).with_for_update()
    aliases = [from_row(Alias, row) for row in await connection.execute(waiting)]
    for alias in aliases:
        await store_alias(connection, alias, with_next_revision(request_alias(alias)), now)
    return len(aliases)


async def _domain_of(connection: AsyncConnection, mailbox: Mailbox) -> Domain:
    found = select(*DOMAIN).where(
        t.domains.c.id == mailbox.domain_id, t.domains.c.organization_id == mailbox.organization_id
    )
    return from_row(Domain, (await connection.execute(found)).one())


async def _proved_elsewhere(connection: AsyncConnection, domain: Domain) -> bool:
    # As literals, or SQLite can't see that the index of proved names serves.
    proved = t.domains.c.status.in_(bindparam("proved", t.OWNING_STATUSES, expanding=True, literal_execute=True))
    others = select(t.domains.c.id).where(t.domains.c.name == domain.name, proved, t.domains.c.id != domain.id)
    return (await connection.execute(others)).first() is not None


def _first(column: Any, *conditions: ColumnElement[bool]) -> Any:
    """The earliest instant of a column."""
    return select(func.min(column)).where(column.is_not(None), *conditions).scalar_subquery()


def _some(*conditions: ColumnElement[bool]) -> Any:
    """The id of some domain that meets the conditions."""
    return select(t.domains.c.id).where(*conditions).limit(1).scalar_subquery()


def _of_status(status: DomainStatus) -> ColumnElement[bool]:
    return t.domains.c.status == status


_its_mailboxes = select(t.mailboxes.c.id).where(t.mailboxes.c.domain_id == t.domains.c.id)
_PURGEABLE = (
    _of_status(DomainStatus.DELETING),
    _its_mailboxes.where(*t.TO_PURGE).exists() | (~_its_mailboxes.exists() & t.domains.c.provision_id.is_(None)),
)
