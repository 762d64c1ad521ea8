"""Storage of domains and their DNS records."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.errors import NameTaken, ResourceName, Taken
from postroomd.domain.model import (
    OWNING_STATUSES,
    AliasStatus,
    Domain,
    DomainRecord,
    DomainStatus,
    ForwardingStatus,
    MailboxStatus,
)
from postroomd.domain.policy import DEFAULT_QUOTAS, Quotas
from postroomd.domain.queries import DomainQuery, Page
from postroomd.domain.records import visible_record
from postroomd.domain.tenancy import Scope
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.drivers import driver_of
from postroomd.storage.idempotency import Unchanged
from postroomd.storage.protocols.domains import NO_INTERVAL, DomainSecrets
from postroomd.storage.protocols.rules import DomainDeletionRule, DomainRule
from postroomd.storage.secret_keys import SecretKeys, owner_of_dkim_key
from postroomd.storage.sql.changes import lock_mailboxes, mark_mailboxes_deleting
from postroomd.storage.sql.domain_changes import insert_domain, store_domain
from postroomd.storage.sql.lists import ListReader
from postroomd.storage.sql.rows import (
    LookupById,
    columns_of,
    from_row,
    row_filter,
    to_row,
    with_next_revision,
)
from postroomd.storage.sql.tenancy import fetch_project
from postroomd.storage.usage import require_within

DOMAIN = columns_of(Domain, t.domains)
_LOOKUP = LookupById(Domain, t.domains, "domain")
RECORD = columns_of(DomainRecord, t.domain_records)


async def fetch_domain(connection: AsyncConnection, scope: Scope, domain_id: str, *, lock: bool = False) -> Domain:
    """Return a domain in the scope, with its row locked if `lock`. Raises NotFound."""
    return await _LOOKUP.within(connection, scope, domain_id, lock=lock)


async def lock_domain(connection: AsyncConnection, domain_id: str, *conditions: ColumnElement[bool]) -> Domain | None:
    """Lock and return a domain of any tenant; None if there is none that meets the conditions."""
    query = select(*DOMAIN).where(t.domains.c.id == domain_id, *conditions).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    return from_row(Domain, row) if row else None


async def fetch_records(connection: AsyncConnection, domain: Domain) -> Mapping[str, DomainRecord]:
    """Return a domain's DNS records by kind."""
    query = select(*RECORD).where(
        t.domain_records.c.domain_id == domain.id, t.domain_records.c.organization_id == domain.organization_id
    )
    rows = await connection.execute(query)
    return {row.kind: from_row(DomainRecord, row) for row in rows}


async def lock_registrations(connection: AsyncConnection, *domain_ids: str | None) -> Mapping[str, Domain]:
    """Lock and return domains of any tenant, by id; those that are gone are left out.

    Their rows are locked in the order of the ids: two orders could deadlock.
    """
    known = [domain_id for domain_id in domain_ids if domain_id is not None]
    query = select(*DOMAIN).where(t.domains.c.id.in_(known)).order_by(t.domains.c.id).with_for_update()
    domains = [from_row(Domain, row) for row in await connection.execute(query)]
    return {domain.id: domain for domain in domains}


async def _count_mailboxes_in_use(connection: AsyncConnection, domain: Domain) -> int:
    """Return the number of a domain's mailboxes that are neither deletion_scheduled nor deleting."""
    counts = t.domain_counts.c
    query = select(func.coalesce(func.sum(counts["count"]), 0)).where(
        counts.organization_id == domain.organization_id,
        counts.domain_id == domain.id,
        counts.status.not_in((MailboxStatus.DELETION_SCHEDULED, MailboxStatus.DELETING)),
    )
    return int((await connection.execute(query)).scalar_one())


async def _require_quota(connection: AsyncConnection, organization_id: str, quotas: Quotas, *, added: int) -> None:
    subject = ResourceName("organization", organization_id)
    await require_within(connection, organization_id, t.domains.name, {subject: quotas.domains}, added)


class SqlDomains:
    """The domains of a tenant and their DNS records."""

    def __init__(self, database: Database, secret_keys: SecretKeys) -> None:
        self._database = database
        self._secret_keys = secret_keys
        self._list = ListReader(database, Domain, t.domains)

    async def create(
        self,
        context: CallContext,
        domain: Domain,
        records: Sequence[DomainRecord],
        secrets: DomainSecrets,
        quotas: Quotas = DEFAULT_QUOTAS,
    ) -> Domain:
        """Store and return a new domain. Raises NotFound, Conflict, QuotaExceeded."""
        owner = owner_of_dkim_key(domain.id, secrets.dkim_selector)
        private_key = await asyncio.to_thread(self._secret_keys.seal, secrets.dkim_private_key, owner)

        async def transaction(connection: AsyncConnection) -> Domain:
            await fetch_project(connection, context.scope, domain.project_id)
            same_name = select(t.domains.c.id, t.domains.c.project_id, t.domains.c.status).where(
                t.domains.c.organization_id == context.scope.organization_id, t.domains.c.name == domain.name
            )
            existing = (await connection.execute(same_name)).one_or_none()
            if existing is not None:
                taken = Taken(field="name", name=domain.name, resource_type="domain")
                # Id and status are confidential to callers that are limited to another project.
                if context.scope.project_id in {None, existing.project_id}:
                    taken = replace(taken, resource_id=existing.id, status=existing.status)
                raise NameTaken([taken])
            await insert_domain(connection, context.actor, domain, secrets, private_key)
            await _require_quota(connection, domain.organization_id, quotas, added=1)
            rows = [to_row(record) | {"organization_id": domain.organization_id} for record in records]
            await connection.execute(insert(t.domain_records), rows)
            return domain

        return await self._database.write(transaction, context)

    async def require_quota(self, context: CallContext, quotas: Quotas) -> None:
        """Raise QuotaExceeded if the organization can have no further domain."""
        organization_id = context.scope.organization_id
        await self._database.read(
            lambda connection: _require_quota(connection, organization_id, quotas, added=0), context
        )

    async def get(self, context: CallContext, domain_id: str) -> Domain:
        """Return a domain. Raises NotFound."""
        return await _LOOKUP.fetch(self._database, context, domain_id)

    async def is_ready(self, name: str) -> bool:
        """Whether any tenant has a domain of this stored name with status `ready`."""
        query = select(t.domains.c.status).where(t.domains.c.name == name, t.domains.c.status.in_(OWNING_STATUSES))

        async def transaction(connection: AsyncConnection) -> bool:
            return (await connection.execute(query)).scalar_one_or_none() is DomainStatus.READY

        return await self._database.read(transaction)

    async def list(self, context: CallContext, query: DomainQuery) -> Page[Domain]:
        """Return one page of domains."""
        return await self._list.page(context, query)

    async def records(self, context: CallContext, domain_id: str) -> Mapping[str, DomainRecord]:
        """Return a domain's DNS records by kind, as `validating` while the domain is. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Mapping[str, DomainRecord]:
            domain = await fetch_domain(connection, context.scope, domain_id)
            records = await fetch_records(connection, domain)
            return {kind: visible_record(record, domain.status) for kind, record in records.items()}

        return await self._database.read(transaction, context)

    async def begin_validation(
        self,
        context: CallContext,
        domain_id: str,
        rule: DomainRule,
        now: datetime,
        min_interval: timedelta = NO_INTERVAL,
    ) -> Domain:
        """Apply a rule to a domain, make its DNS lookup due, and return the domain. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Domain:
            domain = await fetch_domain(connection, context.scope, domain_id, lock=True)
            changed = rule(domain)
            if changed is not domain:
                changed = with_next_revision(changed)
                await store_domain(connection, context.actor, domain, changed)
            # A lookup that is requested already serves this request too, and keeps its place in the queue.
            not_requested = t.domains.c.validation_requested_at.is_(None)
            last = select(t.domains.c.looked_up_at).where(*row_filter(t.domains, domain))
            looked_up_at = (await connection.execute(last)).scalar_one()
            due = now if looked_up_at is None else max(now, min(looked_up_at, now) + min_interval)
            requesting = update(t.domains).where(*row_filter(t.domains, domain), not_requested)
            await connection.execute(requesting.values(validation_requested_at=now, next_check_at=due, failures=0))
            return changed

        return await self._database.write(transaction, context)

    async def delete(self, context: CallContext, domain_id: str, rule: DomainDeletionRule, now: datetime) -> Domain:
        """Apply a rule that deletes a domain and all that is in it, and return it. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Domain | Unchanged[Domain]:
            domain = await fetch_domain(connection, context.scope, domain_id, lock=True)
            # Most refusals come before any mailbox is locked.
            if rule(domain, await _count_mailboxes_in_use(connection, domain)) is domain:
                return Unchanged(domain)
            async with driver_of(connection).enlarged_page_cache(connection):
                await lock_mailboxes(connection, domain)
                # Counted again: a restore, which does not lock the domain, may have been committed in between.
                deleted = with_next_revision(rule(domain, await _count_mailboxes_in_use(connection, domain)))
                await mark_mailboxes_deleting(connection, context.actor, domain, now)
                await connection.execute(
                    update(t.aliases)
                    .where(t.aliases.c.organization_id == domain.organization_id, t.aliases.c.domain_id == domain.id)
                    .values(status=AliasStatus.DELETING, updated_at=now, revision=t.aliases.c.revision + 1)
                )
                forwardings = t.forwardings.c
                await connection.execute(
                    update(t.forwardings)
                    .where(forwardings.organization_id == domain.organization_id, forwardings.domain_id == domain.id)
                    .values(status=ForwardingStatus.DELETING, updated_at=now, revision=forwardings.revision + 1)
                )
            # The domain comes last: its trigger locks the project's counts of domains, which other transactions that
            # create a domain or change its status need.
            await store_domain(connection, context.actor, domain, deleted)
            await connection.execute(
                update(t.domains)
                .where(*row_filter(t.domains, domain))
                .values(validation_requested_at=None, next_check_at=None)
            )
            return deleted

        return await self._database.write(transaction, context)
