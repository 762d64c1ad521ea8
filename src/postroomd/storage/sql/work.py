"""What the worker does by itself, for every tenant."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import bindparam, delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.lifecycle import DOMAIN_TRANSITIONS, DomainEvent, admit_mailbox, move_domain
from postroomd.domain.model import Domain, DomainRecord, DomainStatus, Mailbox, MailboxStatus, RecordStatus, Scope
from postroomd.domain.records import NAME_IS_PROVED_ELSEWHERE, Finding, validation_event
from postroomd.storage import tables as t
from postroomd.storage.engine import Database
from postroomd.storage.sql.domains import DOMAIN, fetch_records, store_domain_status
from postroomd.storage.sql.mailboxes import MAILBOX, fetch_mailbox, store_mailbox
from postroomd.storage.sql.rows import counted, made, this_row


class SqlWork:
    """What the worker does by itself, for every tenant. Limits bound one transaction, not the work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def domains_to_validate(self, limit: int) -> Sequence[tuple[Domain, Mapping[str, DomainRecord]]]:
        """Domains whose records a caller has asked to be looked up, longest waiting first."""

        async def work(connection: AsyncConnection) -> list[tuple[Domain, Mapping[str, DomainRecord]]]:
            asked_at = t.domains.c.validation_requested_at
            waiting = select(*DOMAIN).where(asked_at.is_not(None)).order_by(asked_at).limit(limit)
            domains = [made(Domain, row) for row in (await connection.execute(waiting)).all()]
            return [(domain, await fetch_records(connection, domain)) for domain in domains]

        return await self._database.read(work)

    async def settle_validation(self, domain: Domain, findings: Mapping[str, Finding], now: datetime) -> Domain:
        """Store what was found of a domain's records by kind, and move the domain where it still waits for that."""

        async def work(connection: AsyncConnection) -> Domain:
            stored = await _lock_domain(connection, domain.id)
            if stored is None:
                return domain
            records = await fetch_records(connection, domain)
            found = dict(findings)
            event = validation_event(records, found)
            claims = event is DomainEvent.RECORDS_VALID and stored.status in DOMAIN_TRANSITIONS[event]
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
                settled = counted(settled)
                await store_domain_status(connection, settled)
            answered = update(t.domains).where(*this_row(t.domains, stored)).values(validation_requested_at=None)
            await connection.execute(answered)
            return settled

        return await self._database.write(work)

    async def finish_provisioning(self, now: datetime, limit: int) -> int:
        """Make provisioned domains ready. Answers how many."""

        async def work(connection: AsyncConnection) -> int:
            waiting = select(*DOMAIN).where(t.domains.c.status == DomainStatus.PROVISIONING).limit(limit)
            rows = (await connection.execute(waiting.with_for_update(skip_locked=True))).all()
            for row in rows:
                provisioned = move_domain(made(Domain, row), DomainEvent.PROVISIONED, now)
                await store_domain_status(connection, counted(provisioned))
            return len(rows)

        return await self._database.write(work)

    async def admit_waiting(self, now: datetime, limit: int) -> int:
        """Make mailboxes ready that waited for their domain, which is. Answers how many."""

        async def work(connection: AsyncConnection) -> int:
            waiting = (
                select(*MAILBOX)
                .join(t.domains, t.domains.c.id == t.mailboxes.c.domain_id)
                .where(t.mailboxes.c.status == MailboxStatus.WAITING_DOMAIN, t.domains.c.status == DomainStatus.READY)
                .limit(limit)
                .with_for_update(of=t.mailboxes, skip_locked=True)
            )
            rows = (await connection.execute(waiting)).all()
            for row in rows:
                await store_mailbox(connection, counted(admit_mailbox(made(Mailbox, row), now)))
            return len(rows)

        return await self._database.write(work)

    async def due_mailboxes(self, now: datetime, limit: int) -> Sequence[Mailbox]:
        """Mailboxes whose next step by the calendar is due, the longest overdue first."""

        async def work(connection: AsyncConnection) -> list[Mailbox]:
            due = t.mailboxes.c.due_at
            listing = select(*MAILBOX).where(due <= now).order_by(due).limit(limit)
            return [made(Mailbox, row) for row in await connection.execute(listing)]

        return await self._database.read(work)

    async def advance(self, mailbox: Mailbox, rule: Callable[[Mailbox], Mailbox | None]) -> bool:
        """Apply a rule to a mailbox in one transaction; None purges it. False where it is gone meanwhile."""
        scope = Scope(organization_id=mailbox.organization_id)

        async def work(connection: AsyncConnection) -> bool:
            # The counts' rows come first, as where mailboxes are created: two orders could deadlock.
            domain = await _lock_domain(connection, mailbox.domain_id)
            found = select(t.mailboxes.c.id).where(t.mailboxes.c.id == mailbox.id)
            if domain is None or (await connection.execute(found)).one_or_none() is None:
                return False
            stored = await fetch_mailbox(connection, scope, mailbox.id, lock=True)
            changed = rule(stored)
            if changed is None:
                await _purge(connection, domain, [stored.id])
            elif changed is not stored:
                await store_mailbox(connection, counted(changed))
            return True

        return await self._database.write(work)

    async def purge_domains(self, limit: int) -> int:
        """Purge up to `limit` mailboxes of deleting domains, or such domains that have none left."""

        async def work(connection: AsyncConnection) -> int:
            deleting = select(*DOMAIN).where(t.domains.c.status == DomainStatus.DELETING).limit(1)
            row = (await connection.execute(deleting.with_for_update(skip_locked=True))).one_or_none()
            if row is None:
                return 0
            domain = made(Domain, row)
            chunk = select(t.mailboxes.c.id).where(t.mailboxes.c.domain_id == domain.id).limit(limit)
            mailbox_ids = [row.id for row in await connection.execute(chunk)]
            if mailbox_ids:
                await _purge(connection, domain, mailbox_ids)
                return len(mailbox_ids)
            await connection.execute(delete(t.domains).where(*this_row(t.domains, domain)))
            return 1

        return await self._database.write(work)

    async def forget_answers(self, now: datetime, limit: int) -> int:
        """Drop answers under idempotency keys that have expired. Answers how many."""

        async def work(connection: AsyncConnection) -> int:
            keys = t.idempotency_keys
            expired = select(keys.c.organization_id, keys.c.project_scope, keys.c.key).where(keys.c.expires_at <= now)
            rows = (await connection.execute(expired.limit(limit))).all()
            if rows:
                these = tuple_(keys.c.organization_id, keys.c.project_scope, keys.c.key).in_([tuple(r) for r in rows])
                await connection.execute(delete(keys).where(these, keys.c.expires_at <= now))
            return len(rows)

        return await self._database.write(work)


async def _lock_domain(connection: AsyncConnection, domain_id: str) -> Domain | None:
    found = select(*DOMAIN).where(t.domains.c.id == domain_id).with_for_update()
    row = (await connection.execute(found)).one_or_none()
    return made(Domain, row) if row else None


async def _proved_elsewhere(connection: AsyncConnection, domain: Domain) -> bool:
    # As literals, or SQLite can't see that the index of proved names serves.
    proved = t.domains.c.status.in_(bindparam("proved", t.PROVED, expanding=True, literal_execute=True))
    others = select(t.domains.c.id).where(t.domains.c.name == domain.name, proved, t.domains.c.id != domain.id)
    return (await connection.execute(others)).first() is not None


async def _purge(connection: AsyncConnection, domain: Domain, mailbox_ids: Sequence[str]) -> None:
    """Delete mailboxes of a domain, whose aliases and addresses go with them, and count them off."""
    purging = delete(t.mailboxes).where(
        t.mailboxes.c.organization_id == domain.organization_id, t.mailboxes.c.id.in_(mailbox_ids)
    )
    gone = (await connection.execute(purging)).rowcount
    await connection.execute(
        update(t.projects)
        .where(t.projects.c.id == domain.project_id, t.projects.c.organization_id == domain.organization_id)
        .values(mailbox_count=t.projects.c.mailbox_count - gone)
    )
    await connection.execute(
        update(t.domains)
        .where(*this_row(t.domains, domain))
        .values(mailbox_total_count=t.domains.c.mailbox_total_count - gone, revision=t.domains.c.revision + 1)
    )
