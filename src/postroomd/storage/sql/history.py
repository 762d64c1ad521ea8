"""The history of domains and mailboxes, purged ones included, as the operator reads it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Select, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.errors import NotFound
from postroomd.domain.history import DomainTransition, Tombstone, Transition, address_hash
from postroomd.domain.model import Mailbox
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.sql.mailboxes import MAILBOX
from postroomd.storage.sql.rows import columns_of, from_row
from postroomd.storage.sql.tenancy import require_organization

TRANSITION = columns_of(Transition, t.transitions)
DOMAIN_TRANSITION = columns_of(DomainTransition, t.domain_transitions)
TOMBSTONE = columns_of(Tombstone, t.tombstones)

ORGANIZATIONS_PER_QUERY = 500
"""How many organizations one query searches for the hash of an address or a name, with two bound parameters each."""


IDS_PER_QUERY = 500
"""How many mailboxes or domains one query lists the transitions of."""

Item = TypeVar("Item", Transition, DomainTransition)


class SqlHistory:
    """Transitions and tombstones; they reach every tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_mailbox(self, mailbox_id: str) -> Mailbox | Tombstone:
        """Return a mailbox, or the tombstone of a purged one. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Mailbox | Tombstone:
            mailbox = select(*MAILBOX).where(t.mailboxes.c.id == mailbox_id)
            if row := (await connection.execute(mailbox)).one_or_none():
                return from_row(Mailbox, row)
            tombstone = select(*TOMBSTONE).where(t.tombstones.c.mailbox_id == mailbox_id)
            if row := (await connection.execute(tombstone)).one_or_none():
                return from_row(Tombstone, row)
            raise NotFound("mailbox", mailbox_id)

        return await self._database.read(transaction)

    async def mailboxes(self, mailbox_ids: Sequence[str]) -> Mapping[str, Mailbox]:
        """Return mailboxes of any tenant by id; unknown ids are left out."""

        async def transaction(connection: AsyncConnection) -> dict[str, Mailbox]:
            found: dict[str, Mailbox] = {}
            for start in range(0, len(mailbox_ids), IDS_PER_QUERY):
                query = select(*MAILBOX).where(t.mailboxes.c.id.in_(mailbox_ids[start : start + IDS_PER_QUERY]))
                found |= {row.id: from_row(Mailbox, row) for row in await connection.execute(query)}
            return found

        return await self._database.read(transaction)

    async def transitions(self, mailbox_id: str, after: int, limit: int) -> Sequence[Transition]:
        """Return status transitions of a mailbox after a revision, oldest first. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> list[Transition]:
            columns = t.transitions.c
            query = select(*TRANSITION).where(columns.mailbox_id == mailbox_id, columns.revision > after)
            rows = await connection.execute(query.order_by(columns.revision).limit(limit))
            return [from_row(Transition, row) for row in rows]

        transitions = await self._database.read(transaction)
        if not transitions:
            await self.get_mailbox(mailbox_id)  # raises NotFound for an unknown id
        return transitions

    async def domain_transitions(self, domain_id: str, after: int, limit: int) -> Sequence[DomainTransition]:
        """Return status transitions of a domain after a revision, oldest first. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> list[DomainTransition]:
            columns = t.domain_transitions.c
            of_domain = columns.domain_id == domain_id
            query = select(*DOMAIN_TRANSITION).where(of_domain, columns.revision > after)
            rows = (await connection.execute(query.order_by(columns.revision).limit(limit))).all()
            registered = select(t.domains.c.id).where(t.domains.c.id == domain_id)
            for known in (select(columns.domain_id).where(of_domain).limit(1), registered):
                if rows or (await connection.execute(known)).first():
                    return [from_row(DomainTransition, row) for row in rows]
            raise NotFound("domain", domain_id)

        return await self._database.read(transaction)

    async def domains_with_name(self, name: str) -> Sequence[str]:
        """Return the ids of all domains that have the name or had it when they were purged."""

        async def transaction(connection: AsyncConnection) -> list[str]:
            registered = select(t.domains.c.created_at, t.domains.c.id).where(t.domains.c.name == name)
            created = {row.id: row.created_at for row in await connection.execute(registered)}
            columns = t.domain_transitions.c
            for matching in await _hash_filters(connection, name, columns.organization_id, columns.name_hash):
                first = func.min(columns.at, type_=t.Instant).label("created_at")
                recorded = select(columns.domain_id, first).where(matching).group_by(columns.domain_id)
                created = {row.domain_id: row.created_at for row in await connection.execute(recorded)} | created
            return sorted(created, key=lambda domain_id: (created[domain_id], domain_id))

        return await self._database.read(transaction)

    async def transitions_with_address(self, address: str, after: tuple[str, int], limit: int) -> Sequence[Transition]:
        """Return status transitions of all mailboxes with an address. Raises NotFound."""
        ids = await self.mailboxes_with_address(address)
        if not ids:
            raise NotFound("mailbox", address)
        columns = t.transitions.c
        query = select(*TRANSITION).order_by(columns.mailbox_id, columns.revision)
        return await self._of_several(Transition, query, columns.mailbox_id, columns.revision, ids, after, limit)

    async def domain_transitions_with_name(
        self, name: str, after: tuple[str, int], limit: int
    ) -> Sequence[DomainTransition]:
        """Return status transitions of all domains with a name. Raises NotFound."""
        ids = await self.domains_with_name(name)
        if not ids:
            raise NotFound("domain", name)
        columns = t.domain_transitions.c
        query = select(*DOMAIN_TRANSITION).order_by(columns.domain_id, columns.revision)
        return await self._of_several(DomainTransition, query, columns.domain_id, columns.revision, ids, after, limit)

    async def _of_several(
        self,
        kind: type[Item],
        query: Select[Any],
        identifier: Column[str],
        revision: Column[int],
        ids: Sequence[str],
        after: tuple[str, int],
        limit: int,
    ) -> Sequence[Item]:
        """Return up to `limit` transitions of these ids after an id and its revision, by id and revision."""
        rest = sorted(each for each in ids if each >= after[0])
        if after[0]:  # an empty text is no UUID for PostgreSQL
            query = query.where(or_(identifier != after[0], revision > after[1]))

        async def transaction(connection: AsyncConnection) -> list[Item]:
            found: list[Item] = []
            for start in range(0, len(rest), IDS_PER_QUERY):
                some = query.where(identifier.in_(rest[start : start + IDS_PER_QUERY])).limit(limit - len(found))
                found += [from_row(kind, row) for row in await connection.execute(some)]
                if len(found) == limit:
                    break
            return found

        return await self._database.read(transaction)

    async def require_organization(self, organization_id: str) -> None:
        """Raise NotFound for an unknown organization."""
        await self._database.read(lambda connection: require_organization(connection, organization_id))

    async def organizations_after(self, organization_id: str, limit: int) -> Sequence[str]:
        """Return the ids of up to `limit` organizations after an id, "" for the first ones, in their order."""

        async def transaction(connection: AsyncConnection) -> list[str]:
            query = select(t.organizations.c.id).order_by(t.organizations.c.id).limit(limit)
            if organization_id:
                query = query.where(t.organizations.c.id > organization_id)
            return list((await connection.execute(query)).scalars())

        return await self._database.read(transaction)

    async def mailboxes_in_use(self, address: str) -> Sequence[str]:
        """Return the ids of the mailboxes of all tenants that have the address now."""

        async def transaction(connection: AsyncConnection) -> list[str]:
            return [row.id for row in await connection.execute(_with_address(address))]

        return await self._database.read(transaction)

    async def mailboxes_with_address(self, address: str) -> Sequence[str]:
        """Return the ids of all mailboxes that have the address or had it when they were purged."""

        async def transaction(connection: AsyncConnection) -> list[str]:
            ids = [row.id for row in await connection.execute(_with_address(address))]
            purged: list[tuple[datetime, str]] = []
            columns = t.tombstones.c
            for matching in await _hash_filters(connection, address, columns.organization_id, columns.address_hash):
                tombstones = select(columns.purged_at, columns.mailbox_id).where(matching)
                purged += [(row.purged_at, row.mailbox_id) for row in await connection.execute(tombstones)]
            return [mailbox_id for _, mailbox_id in sorted(purged)] + ids

        return await self._database.read(transaction)


def _with_address(address: str) -> Select[Any]:
    """Select the mailboxes of all tenants that have an address, in the order of their creation."""
    # Joined to the organizations, since every index on addresses begins with the organization.
    return (
        select(t.mailboxes.c.id, t.mailboxes.c.created_at)
        .select_from(t.organizations)
        .join(t.mailboxes, t.mailboxes.c.organization_id == t.organizations.c.id)
        .where(t.mailboxes.c.email == address)
        .order_by(t.mailboxes.c.created_at, t.mailboxes.c.id)
    )


async def _hash_filters(
    connection: AsyncConnection, text: str, organization_id: Column[str], hashed: Column[bytes]
) -> Sequence[ColumnElement[bool]]:
    """Return conditions that together match the rows of all organizations with the hash of an address or a name."""
    ids = (await connection.execute(select(t.organizations.c.id))).scalars().all()
    chunks = [ids[start : start + ORGANIZATIONS_PER_QUERY] for start in range(0, len(ids), ORGANIZATIONS_PER_QUERY)]
    return [
        tuple_(organization_id, hashed).in_([(each, address_hash(each, text)) for each in chunk]) for chunk in chunks
    ]
