"""Domains and their DNS records."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.errors import Conflict, NotFound, ResourceName
from postroomd.domain.model import AliasStatus, Domain, DomainRecord
from postroomd.domain.queries import DomainQuery, Page
from postroomd.domain.records import shown
from postroomd.domain.tenancy import Scope
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.drivers import driver_of
from postroomd.storage.protocols.domains import DomainSecrets
from postroomd.storage.protocols.rules import DomainRule
from postroomd.storage.sql.changes import delete_mailboxes_of
from postroomd.storage.sql.lists import Lists
from postroomd.storage.sql.provisions import store_provisions
from postroomd.storage.sql.rows import (
    ById,
    columns_of,
    counted,
    made,
    this_row,
    values_of,
    within,
)
from postroomd.storage.sql.tenancy import fetch_project

DOMAIN = columns_of(Domain, t.domains)
_BY_ID = ById(Domain, t.domains, "domain")
RECORD = columns_of(DomainRecord, t.domain_records)


async def fetch_domain(connection: AsyncConnection, scope: Scope, domain_id: str, *, lock: bool = False) -> Domain:
    """One domain of the caller's, with its row locked where it is to be written. Raises NotFound."""
    found = select(*DOMAIN).where(t.domains.c.id == domain_id, *within(t.domains, scope))
    row = (await connection.execute(found.with_for_update() if lock else found)).one_or_none()
    if row is None:
        raise NotFound("domain", domain_id)
    return made(Domain, row)


async def lock_domain(connection: AsyncConnection, domain_id: str, *conditions: ColumnElement[bool]) -> Domain | None:
    """A domain of any tenant, with its row locked; None where there is none that meets the conditions."""
    found = select(*DOMAIN).where(t.domains.c.id == domain_id, *conditions).with_for_update()
    row = (await connection.execute(found)).one_or_none()
    return made(Domain, row) if row else None


async def fetch_records(connection: AsyncConnection, domain: Domain) -> Mapping[str, DomainRecord]:
    """A domain's DNS records by kind."""
    listing = select(*RECORD).where(
        t.domain_records.c.domain_id == domain.id, t.domain_records.c.organization_id == domain.organization_id
    )
    rows = await connection.execute(listing)
    return {row.kind: made(DomainRecord, row) for row in rows}


async def store_domain(connection: AsyncConnection, before: Domain, after: Domain) -> None:
    """Write what a rule can change of a domain, with the mail platform's work on it."""
    changing = update(t.domains).where(*this_row(t.domains, after))
    await connection.execute(
        changing.values(
            status=after.status,
            updated_at=after.updated_at,
            revision=after.revision,
            provision_id=after.provision_id,
        )
    )
    await store_provisions(connection, [(before, after)], after.updated_at)


class SqlDomains:
    """The domains of tenants, and their DNS records."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lists = Lists(database, Domain, t.domains)

    async def create(
        self, context: CallContext, domain: Domain, records: Sequence[DomainRecord], secrets: DomainSecrets
    ) -> Domain:
        """Store a new domain. Raises NotFound for its project, Conflict where the organization has the name."""

        async def work(connection: AsyncConnection) -> Domain:
            await fetch_project(connection, context.scope, domain.project_id)
            same_name = select(t.domains.c.id, t.domains.c.project_id).where(
                t.domains.c.organization_id == context.scope.organization_id, t.domains.c.name == domain.name
            )
            existing = (await connection.execute(same_name)).one_or_none()
            if existing is not None:
                # A key that is limited to another project is not told that project's ids.
                seen = context.scope.project_id in {None, existing.project_id}
                name = ResourceName("domain", existing.id if seen else domain.name)
                raise Conflict(f"the organization has registered {domain.name} already", [name])
            secret_columns = {
                "validation_token": secrets.validation_token,
                "dkim_selector": secrets.dkim_selector,
                "dkim_private_key": secrets.dkim_private_key,
            }
            await connection.execute(insert(t.domains).values(values_of(domain) | secret_columns))
            rows = [values_of(record) | {"organization_id": domain.organization_id} for record in records]
            await connection.execute(insert(t.domain_records), rows)
            await store_provisions(connection, [(None, domain)], domain.created_at)
            return domain

        return await self._database.write(work, context)

    async def get(self, context: CallContext, domain_id: str) -> Domain:
        """One domain. Raises NotFound."""
        return await _BY_ID.found(self._database, context, domain_id)

    async def list(self, context: CallContext, query: DomainQuery) -> Page[Domain]:
        """One page of domains."""
        return await self._lists.page(context, query)

    async def records(self, context: CallContext, domain_id: str) -> Mapping[str, DomainRecord]:
        """A domain's DNS records by kind. Raises NotFound."""

        async def work(connection: AsyncConnection) -> Mapping[str, DomainRecord]:
            domain = await fetch_domain(connection, context.scope, domain_id)
            records = await fetch_records(connection, domain)
            return {kind: shown(record, domain.status) for kind, record in records.items()}

        return await self._database.read(work, context)

    async def begin_validation(self, context: CallContext, domain_id: str, rule: DomainRule, now: datetime) -> Domain:
        """Apply a rule to a domain, and ask the worker to look its records up. Raises NotFound."""

        async def work(connection: AsyncConnection) -> Domain:
            domain = await fetch_domain(connection, context.scope, domain_id, lock=True)
            changed = rule(domain)
            if changed is not domain:
                changed = counted(changed)
                await store_domain(connection, domain, changed)
            # A request that comes while one waits for its look-up is answered by that one.
            unasked = t.domains.c.validation_requested_at.is_(None)
            requesting = update(t.domains).where(*this_row(t.domains, domain), unasked)
            await connection.execute(requesting.values(validation_requested_at=now, next_check_at=now, failures=0))
            return changed

        return await self._database.write(work, context)

    async def delete(self, context: CallContext, domain_id: str, rule: DomainRule, now: datetime) -> Domain:
        """Apply a rule that deletes a domain, and delete all its mailboxes and aliases with it. Raises NotFound."""

        async def work(connection: AsyncConnection) -> Domain:
            domain = await fetch_domain(connection, context.scope, domain_id, lock=True)
            deleted = rule(domain)
            if deleted is domain:
                return domain
            deleted = counted(deleted)
            async with driver_of(connection).enlarged_page_cache(connection):
                await delete_mailboxes_of(connection, context.actor, domain, now)
                await connection.execute(
                    update(t.aliases)
                    .where(t.aliases.c.organization_id == domain.organization_id, t.aliases.c.domain_id == domain.id)
                    .values(status=AliasStatus.DELETING, updated_at=now, revision=t.aliases.c.revision + 1)
                )
            # Last, since from here on the project's other domains wait for the commit, where one is created or moves.
            await store_domain(connection, domain, deleted)
            await connection.execute(
                update(t.domains)
                .where(*this_row(t.domains, domain))
                .values(validation_requested_at=None, next_check_at=None)
            )
            return deleted

        return await self._database.write(work, context)
