"""Due work on domains: their lookups, activation, propagation and purge."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, case, func, literal, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import WORKER
from postroomd.domain.model import OWNING_STATUSES, Alias, Domain, DomainStatus, Forwarding, Mailbox
from postroomd.domain.ownership import DomainCheck, Registration
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.protocols.rules import (
    ActivationRule,
    AliasRule,
    DomainPurgeRule,
    ForwardingRule,
    MailboxRule,
    PurgeRule,
    ValidationRule,
)
from postroomd.storage.protocols.work import DomainLease, DomainPurge
from postroomd.storage.sql.batches import LockedBatch, write_batch
from postroomd.storage.sql.changes import purge_mailboxes, store_followers, store_mailbox
from postroomd.storage.sql.dkim_rotations import retire_keys, switch_key
from postroomd.storage.sql.domain_changes import remove_domain, store_domain
from postroomd.storage.sql.domains import DOMAIN, fetch_records, lock_registrations
from postroomd.storage.sql.due import PROVISIONING, PURGEABLE
from postroomd.storage.sql.leases import in_order, lease_rows, postpone_row
from postroomd.storage.sql.mailbox_parts import request_parts
from postroomd.storage.sql.mailboxes import MAILBOX
from postroomd.storage.sql.rows import from_row, row_filter, with_next_revision


class SqlDomainWork:
    """Due work on the domains of every tenant. Limits bound one transaction, not the work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lease_domains(
        self,
        now: datetime,
        lease: timedelta,
        limit: int,
        skipping: Collection[str] = (),
        running: Mapping[str, int] | None = None,
    ) -> Sequence[DomainLease]:
        """Lease domains whose lookup is due, the longest overdue of each organization first. Raises RowFailed."""

        async def work(connection: AsyncConnection, batch: LockedBatch) -> list[DomainLease]:
            columns = t.domains.c
            candidates = _lookups_by_turn(now, limit, skipping, running)
            ids = await lease_rows(connection, batch, t.domains, columns.next_check_at, now, lease, candidates)
            if not ids:
                return []
            listing = select(*[*DOMAIN, columns.claim, columns.failures]).where(columns.id.in_(ids))
            rows = in_order(ids, (await connection.execute(listing)).all())
            domains = [from_row(Domain, row) for row in rows]
            return [
                DomainLease(domain, await fetch_records(connection, domain), row.claim, row.failures)
                for domain, row in zip(domains, rows, strict=True)
            ]

        return await write_batch(self._database, work, limit, skipping)

    async def rivals(self, domain: Domain, *, owning: bool, limit: int) -> Sequence[Registration]:
        """Return domains of other organizations with the same name, those that own it or the others."""

        async def work(connection: AsyncConnection) -> list[Registration]:
            rows = await connection.execute(_rivals(domain, owning=owning).limit(limit))
            return [await _registration(connection, from_row(Domain, row)) for row in rows.all()]

        return await self._database.read(work)

    async def settle_validation(self, lease: DomainLease, rule: ValidationRule) -> DomainCheck:
        """Apply a rule to a domain and its records, and store what it changes and when the next lookup is due."""

        async def work(connection: AsyncConnection) -> DomainCheck:
            found = (await connection.execute(_rivals(lease.domain, owning=True).limit(1))).one_or_none()
            domains = await lock_registrations(connection, lease.domain.id, found and found.id)
            columns = t.domains.c
            held = select(columns.id).where(columns.id == lease.domain.id, columns.claim == lease.generation)
            stored, owner = domains.get(lease.domain.id), domains.get(found.id) if found else None
            if stored is None or (await connection.execute(held)).first() is None:
                return DomainCheck(domain=lease.domain, next_check_at=None)
            if owner is not None and owner.status not in OWNING_STATUSES:
                owner = None  # since its row was read
            records = await fetch_records(connection, stored)
            check = rule(stored, records, await _registration(connection, owner) if owner else None)
            if owner is not None and check.former_owner is not None:
                # First, as an index permits one owner of a name.
                await _store_check(connection, owner, check.former_owner)
            return await _store_check(connection, stored, check)

        return await self._database.write(work, WORKER)

    async def postpone_domain(self, lease: DomainLease, until: datetime) -> None:
        """Count a failed lookup, and make the next one due at an instant."""
        columns = t.domains.c
        held = (*row_filter(t.domains, lease.domain), columns.claim == lease.generation)
        await postpone_row(
            self._database, update(t.domains).where(*held, columns.next_check_at.is_not(None)), next_check_at=until
        )

    async def activate_domains(
        self,
        domain_rule: ActivationRule,
        alias_rule: AliasRule,
        forwarding_rule: ForwardingRule,
        now: datetime,
        limit: int,
        skipping: Collection[str] = (),
    ) -> int:
        """Apply rules to provisioning domains, their aliases and forwardings.

        Returns the number of domains in the batch. Raises RowFailed.
        """

        async def work(connection: AsyncConnection, batch: LockedBatch) -> int:
            provisioning = select(t.domains.c.id).where(*PROVISIONING)
            ids = await batch.lock(connection, provisioning, t.domains)
            for row in (await connection.execute(select(*DOMAIN).where(t.domains.c.id.in_(ids)))).all():
                domain = from_row(Domain, row)
                if await request_parts(connection, domain, Alias, alias_rule, now, limit) == limit:
                    continue  # the next call continues with further aliases
                if await request_parts(connection, domain, Forwarding, forwarding_rule, now, limit) == limit:
                    continue
                await _store_check(connection, domain, domain_rule(domain))
            return len(ids)

        return await write_batch(self._database, work, limit, skipping)

    async def propagate_domain(self, rule: MailboxRule, limit: int, skipping: Collection[str] = ()) -> int:
        """Apply a rule to the next mailboxes of a domain whose status has changed. Raises RowFailed, for the domain."""

        async def work(connection: AsyncConnection, batch: LockedBatch) -> int:
            columns, mailboxes = t.domains.c, t.mailboxes.c
            ids = await batch.lock(connection, select(columns.id).where(t.PROPAGATING), t.domains)
            if not ids:
                return 0
            last = (columns.propagated_created_at, columns.propagated_mailbox_id)
            row = (await connection.execute(select(*[*DOMAIN, *last]).where(columns.id.in_(ids)))).one()
            domain = from_row(Domain, row)
            listing = select(*MAILBOX).where(
                mailboxes.organization_id == domain.organization_id, mailboxes.domain_id == domain.id
            )
            order = (mailboxes.created_at, mailboxes.id)
            if row.propagated_created_at is not None:
                position = (
                    literal(row.propagated_created_at, t.Instant),
                    literal(row.propagated_mailbox_id, t.ID),
                )
                listing = listing.where(tuple_(*order) > tuple_(*position))
            # Every mailbox is locked, whatever its status: one that is being restored, say, may have been given the
            # domain's former status, and is read here once its transaction has ended.
            listing = listing.order_by(*order).limit(limit).with_for_update()
            found = [from_row(Mailbox, each) for each in await connection.execute(listing)]
            pairs = [(each, changed) for each in found if (changed := rule(each, domain.status)) is not each]
            await store_followers(connection, WORKER.actor, [(old, with_next_revision(new)) for old, new in pairs])
            # No mailbox of the domain is purged meanwhile, since its row is locked.
            more = len(found) == limit
            progress = update(t.domains).where(*row_filter(t.domains, domain))
            await connection.execute(
                progress.values(
                    propagating=more,
                    propagated_created_at=found[-1].created_at if more else None,
                    propagated_mailbox_id=found[-1].id if more else None,
                )
            )
            return max(len(found), 1)

        return await write_batch(self._database, work, 1, skipping)

    async def purge_domains(
        self,
        mailbox_rule: PurgeRule,
        domain_rule: DomainPurgeRule,
        now: datetime,
        limit: int,
        skipping: Collection[str] = (),
    ) -> DomainPurge | None:
        """Apply a rule to up to `limit` mailboxes of a deleting domain, or to a deleting domain without mailboxes.

        Raises RowFailed, for the domain.
        """

        async def work(connection: AsyncConnection, batch: LockedBatch) -> DomainPurge | None:
            ids = await batch.lock(connection, select(t.domains.c.id).where(*PURGEABLE), t.domains)
            if not ids:
                return None
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
                return DomainPurge(domain.id, len(mailboxes), domain.mailbox_total_count - len(purged))
            remaining = domain_rule(domain)
            if remaining is None:
                await remove_domain(connection, WORKER.actor, domain, now)
            else:
                await store_domain(connection, WORKER.actor, domain, with_next_revision(remaining))
            return DomainPurge(domain.id, 0, domain.mailbox_total_count, removed=remaining is None)

        return await write_batch(self._database, work, 1, skipping)

    async def retire_dkim_keys(self, now: datetime, limit: int, skipping: Collection[str] = ()) -> int:
        """Erase up to `limit` previous DKIM keys whose overlap period has ended. Returns their number."""
        return await retire_keys(self._database, now, limit, skipping)


def _lookups_by_turn(
    now: datetime, limit: int, skipping: Collection[str], running: Mapping[str, int] | None
) -> Select[tuple[str]]:
    """Select the domains whose lookup is due, round-robin by organization."""
    columns = t.domains.c
    rank = func.row_number().over(partition_by=columns.organization_id, order_by=(columns.next_check_at, columns.id))
    counts = running.items() if running else ()
    earlier = case(*((columns.organization_id == key, count) for key, count in counts), else_=0) if counts else 0
    ranking = select(columns.id, columns.next_check_at, (rank + earlier).label("turn"))
    ranking = ranking.where(columns.next_check_at <= now)
    if skipping:
        ranking = ranking.where(columns.id.not_in(skipping))
    turns = ranking.subquery("turns")
    place = func.row_number().over(order_by=(turns.c.turn, turns.c.next_check_at, turns.c.id))
    # No later turn can be leased: without them, few of many due domains are sorted.
    placing = select(turns.c.id, turns.c.turn, place.label("place")).where(turns.c.turn <= limit)
    placed = placing.subquery("placed")
    due = select(columns.id).join(placed, placed.c.id == columns.id).order_by(placed.c.place)
    # Again, as PostgreSQL rechecks the condition on the row that it locks, but not in the subquery.
    due = due.where(columns.next_check_at <= now)
    # The first `place - 1` are leased before it, and its organization then has `turn - 1`, fewer than are left.
    return due if running is None else due.where(placed.c.turn - 1 < limit - (placed.c.place - 1))


def _rivals(domain: Domain, *, owning: bool) -> Select[Any]:
    """Select domains of other organizations with the same name, those that own it or the others."""
    columns = t.domains.c
    if owning:
        # The statuses are literals, because SQLite uses the partial index of owned names for literals only.
        condition = columns.status.in_(bindparam("owning", OWNING_STATUSES, expanding=True, literal_execute=True))
    else:
        condition = columns.status.not_in((*OWNING_STATUSES, DomainStatus.CREATING, DomainStatus.DELETING))
    return select(*DOMAIN).where(columns.name == domain.name, condition, columns.id != domain.id).order_by(columns.id)


async def _registration(connection: AsyncConnection, domain: Domain) -> Registration:
    return Registration(domain, await fetch_records(connection, domain))


async def _store_check(connection: AsyncConnection, stored: Domain, check: DomainCheck) -> DomainCheck:
    """Store the result of a lookup or an activation for a domain, whose row is locked. Returns it with its revision."""
    if check.key_switch is not None:
        await switch_key(connection, stored, check.key_switch)
    for record in check.records.values():
        storing = update(t.domain_records).where(t.domain_records.c.id == record.id)
        await connection.execute(storing.values(status=record.status, error=record.error, updated_at=record.updated_at))
    settled = check.domain
    if settled is not stored:
        if settled.status is not stored.status:
            settled = with_next_revision(settled)
        await store_domain(connection, WORKER.actor, stored, settled)
    scheduling = update(t.domains).where(*row_filter(t.domains, stored))
    scheduling = scheduling.values(validation_requested_at=None, next_check_at=check.next_check_at, failures=0)
    if check.looked_up_at is not None:
        scheduling = scheduling.values(looked_up_at=check.looked_up_at)
    await connection.execute(scheduling)
    return replace(check, domain=settled)
