"""Due work of every tenant: leases, and the transactions of the worker's steps."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Column, Row, Select, Table, Update, bindparam, case, delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import WORKER
from postroomd.domain.mailboxes import due_at
from postroomd.domain.model import Alias, Domain, Forwarding, Mailbox
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.protocols.rules import (
    ActivationRule,
    AliasRule,
    DomainPurgeRule,
    ForwardingRule,
    MailboxStep,
    PurgeRule,
    ValidationRule,
)
from postroomd.storage.protocols.work import DomainLease, Due, LookupShare, MailboxLease
from postroomd.storage.sql.aliases import ALIAS, store_alias
from postroomd.storage.sql.batches import LockedBatch, write_batch
from postroomd.storage.sql.changes import purge_mailboxes, store_mailbox
from postroomd.storage.sql.domains import DOMAIN, fetch_records, lock_domain, store_domain
from postroomd.storage.sql.due import PROVISIONING, PURGEABLE, fetch_due
from postroomd.storage.sql.forwardings import FORWARDING, store_forwarding
from postroomd.storage.sql.mailboxes import MAILBOX
from postroomd.storage.sql.rows import from_row, row_filter, with_next_revision


class SqlWork:
    """Due work of every tenant. Limits bound one transaction, not the work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def next_due(self, *, with_provisions: bool = False, history_retention: timedelta | None = None) -> Due:
        """Return the earliest due dates, by one statement that indexes serve."""
        fetch = partial(fetch_due, with_provisions=with_provisions, history_retention=history_retention)
        return await self._database.read(fetch)

    # --- Domains ------------------------------------------------------------------------------------------------------

    async def lease_domains(
        self,
        now: datetime,
        lease: timedelta,
        limit: int,
        skipping: Collection[str] = (),
        share: LookupShare | None = None,
    ) -> Sequence[DomainLease]:
        """Lease domains whose lookup is due, the longest overdue of each organization first. Raises RowFailed."""

        async def work(connection: AsyncConnection, batch: LockedBatch) -> list[DomainLease]:
            columns = t.domains.c
            candidates = _lookups_by_turn(now, skipping, share)
            ids = await _lease(connection, batch, t.domains, columns.next_check_at, now, lease, candidates)
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

    async def settle_validation(self, lease: DomainLease, rule: ValidationRule) -> Domain:
        """Apply a rule to a domain and its records, and store what it changes and when the next lookup is due."""

        async def work(connection: AsyncConnection) -> Domain:
            stored = await lock_domain(connection, lease.domain.id, t.domains.c.claim == lease.generation)
            if stored is None:
                return lease.domain
            records = await fetch_records(connection, stored)
            check = rule(stored, records, await _owned_elsewhere(connection, stored))
            for record in check.records.values():
                storing = update(t.domain_records).where(t.domain_records.c.id == record.id)
                await connection.execute(
                    storing.values(status=record.status, error=record.error, updated_at=record.updated_at)
                )
            settled = check.domain
            if settled is not stored:
                settled = with_next_revision(settled)
                await store_domain(connection, stored, settled)
            scheduling = update(t.domains).where(*row_filter(t.domains, stored))
            await connection.execute(
                scheduling.values(validation_requested_at=None, next_check_at=check.next_check_at, failures=0)
            )
            return settled

        return await self._database.write(work, WORKER)

    async def postpone_domain(self, lease: DomainLease, until: datetime) -> None:
        """Count a failed lookup, and make the next one due at an instant."""
        columns = t.domains.c
        held = (*row_filter(t.domains, lease.domain), columns.claim == lease.generation)
        await self._postpone(update(t.domains).where(*held, columns.next_check_at.is_not(None)), next_check_at=until)

    async def activate_domains(
        self,
        domain_rule: ActivationRule,
        alias_rule: AliasRule,
        forwarding_rule: ForwardingRule,
        now: datetime,
        limit: int,
        skipping: Collection[str] = (),
    ) -> int:
        """Apply rules to provisioning domains, their aliases and forwardings, and make waiting mailboxes due.

        Returns the number of domains in the batch. Raises RowFailed.
        """

        async def work(connection: AsyncConnection, batch: LockedBatch) -> int:
            provisioning = select(t.domains.c.id).where(PROVISIONING)
            ids = await batch.lock(connection, provisioning, t.domains)
            for row in (await connection.execute(select(*DOMAIN).where(t.domains.c.id.in_(ids)))).all():
                domain = from_row(Domain, row)
                if await _request_aliases(connection, domain, alias_rule, now, limit) == limit:
                    continue  # the next call continues with further aliases
                if await _request_forwardings(connection, domain, forwarding_rule, now, limit) == limit:
                    continue
                check = domain_rule(domain)
                ready = with_next_revision(check.domain)
                await store_domain(connection, domain, ready)
                scheduling = update(t.domains).where(*row_filter(t.domains, ready))
                await connection.execute(scheduling.values(next_check_at=check.next_check_at))
                waiting = update(t.mailboxes).where(t.mailboxes.c.domain_id == ready.id, t.WAITING)
                await connection.execute(waiting.values(due_at=now))
            return len(ids)

        return await write_batch(self._database, work, limit, skipping)

    # --- Mailboxes ----------------------------------------------------------------------------------------------------

    async def lease_mailboxes(
        self, now: datetime, lease: timedelta, limit: int, skipping: Collection[str] = ()
    ) -> Sequence[MailboxLease]:
        """Lease mailboxes whose step is due, the longest overdue first. Raises RowFailed."""

        async def work(connection: AsyncConnection, batch: LockedBatch) -> list[MailboxLease]:
            columns = t.mailboxes.c
            ids = await _lease(connection, batch, t.mailboxes, columns.due_at, now, lease)
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
        await self._postpone(update(t.mailboxes).where(*held, columns.due_at.is_not(None)), due_at=until)

    async def _postpone(self, statement: Update, **due: datetime) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement.values(failures=statement.table.c.failures + 1, **due))

        await self._database.write(work, WORKER)

    # --- Purges and removals ------------------------------------------------------------------------------------------

    async def purge_domains(
        self,
        mailbox_rule: PurgeRule,
        domain_rule: DomainPurgeRule,
        now: datetime,
        limit: int,
        skipping: Collection[str] = (),
    ) -> int:
        """Apply a rule to up to `limit` mailboxes of a deleting domain, or to a deleting domain without mailboxes.

        Raises RowFailed, for the domain.
        """

        async def work(connection: AsyncConnection, batch: LockedBatch) -> int:
            ids = await batch.lock(connection, select(t.domains.c.id).where(*PURGEABLE), t.domains)
            if not ids:
                return 0
            domain = from_row(Domain, (await connection.execute(select(*DOMAIN).where(t.domains.c.id.in_(ids)))).one())
            listing = select(*MAILBOX).where(t.mailboxes.c.domain_id == domain.id, *t.TO_PURGE).limit(limit)
            mailboxes = [from_row(Mailbox, row) for row in await connection.execute(listing.with_for_update())]
            purged = []
            for mailbox in mailboxes:
                changed = mailbox_rule(mailbox)
                if changed is None:
                    purged.append(mailbox)
                elif changed is not mailbox:
                    await store_mailbox(connection, WORKER.actor, mailbox, with_next_revision(changed))
            if purged:
                await purge_mailboxes(connection, WORKER.actor, domain, purged, now)
            if mailboxes:
                return len(mailboxes)
            remaining = domain_rule(domain)
            if remaining is None:
                await connection.execute(delete(t.domains).where(*row_filter(t.domains, domain)))
            else:
                await store_domain(connection, domain, with_next_revision(remaining))
            return 1

        return await write_batch(self._database, work, 1, skipping)

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
                key = list(table.primary_key)
                removable = (since <= until, *conditions)
                rows = (await connection.execute(select(*key).where(*removable).order_by(since).limit(limit))).all()
                if rows:
                    selected = tuple_(*key).in_([tuple(row) for row in rows])
                    await connection.execute(delete(table).where(selected, *removable))
                removed += len(rows)
            return removed

        return await self._database.write(work, WORKER)


def _lookups_by_turn(now: datetime, skipping: Collection[str], share: LookupShare | None) -> Select[tuple[str]]:
    """Select the domains whose lookup is due, round-robin by organization."""
    columns = t.domains.c
    rank = func.row_number().over(partition_by=columns.organization_id, order_by=(columns.next_check_at, columns.id))
    counts = share.running.items() if share else ()
    running = case(*((columns.organization_id == key, count) for key, count in counts), else_=0) if counts else 0
    ranking = select(columns.id, (rank + running).label("turn")).where(columns.next_check_at <= now)
    if skipping:
        ranking = ranking.where(columns.id.not_in(skipping))
    ranked = ranking.subquery("ranked")
    due = select(columns.id).join(ranked, ranked.c.id == columns.id)
    # Again, as PostgreSQL rechecks the condition on the row that it locks, but not in the subquery.
    due = due.where(columns.next_check_at <= now).order_by(ranked.c.turn, columns.next_check_at)
    return due if share is None else due.where(ranked.c.turn <= share.max_lookups)


async def _lease(
    connection: AsyncConnection,
    batch: LockedBatch,
    table: Table,
    due: Column[Any],
    now: datetime,
    lease: timedelta,
    candidates: Select[tuple[str]] | None = None,
) -> Sequence[str]:
    """Lease due rows, by default the longest overdue first, until the lease expires. Returns their ids."""
    if candidates is None:
        candidates = select(table.c.id).where(due <= now).order_by(due)
    ids = await batch.lock(connection, candidates, table)
    if ids:
        leased = {due: now + lease, table.c.claim: table.c.claim + 1}
        await connection.execute(update(table).where(table.c.id.in_(ids)).values(leased))
    return ids


def _in_order(ids: Sequence[str], rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Return rows in the order of their ids."""
    by_id = {row.id: row for row in rows}
    return [by_id[row_id] for row_id in ids]


async def _request_aliases(
    connection: AsyncConnection, domain: Domain, rule: AliasRule, now: datetime, limit: int
) -> int:
    """Apply a rule to aliases that wait for their domain, whose row is locked. Returns their number."""
    waiting = select(*ALIAS).where(t.aliases.c.domain_id == domain.id, *t.TO_REQUEST).limit(limit).with_for_update()
    aliases = [from_row(Alias, row) for row in await connection.execute(waiting)]
    for alias in aliases:
        await store_alias(connection, alias, with_next_revision(rule(alias)), now)
    return len(aliases)


async def _request_forwardings(
    connection: AsyncConnection, domain: Domain, rule: ForwardingRule, now: datetime, limit: int
) -> int:
    """Apply a rule to forwardings that wait for their domain, whose row is locked. Returns their number."""
    waiting = select(*FORWARDING).where(t.forwardings.c.domain_id == domain.id, *t.FORWARDINGS_TO_REQUEST).limit(limit)
    forwardings = [from_row(Forwarding, row) for row in await connection.execute(waiting.with_for_update())]
    for forwarding in forwardings:
        await store_forwarding(connection, forwarding, with_next_revision(rule(forwarding)), now)
    return len(forwardings)


async def _fetch_domain_of(connection: AsyncConnection, mailbox: Mailbox) -> Domain:
    fetching = select(*DOMAIN).where(
        t.domains.c.id == mailbox.domain_id, t.domains.c.organization_id == mailbox.organization_id
    )
    return from_row(Domain, (await connection.execute(fetching)).one())


async def _owned_elsewhere(connection: AsyncConnection, domain: Domain) -> bool:
    """Return whether another domain of the same name has proved its ownership."""
    # The statuses are literals, because SQLite uses the partial index of owned names for literals only.
    owning = t.domains.c.status.in_(bindparam("owning", t.OWNING_STATUSES, expanding=True, literal_execute=True))
    others = select(t.domains.c.id).where(t.domains.c.name == domain.name, owning, t.domains.c.id != domain.id)
    return (await connection.execute(others)).first() is not None
