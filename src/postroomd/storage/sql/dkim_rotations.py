"""Storage of the rotations of domains' DKIM keys."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.dkim import KINDS_AFTER, LEVELS, DkimKeys, DkimRotation, KeySwitch, NewDkimKey
from postroomd.domain.errors import NotFound
from postroomd.domain.model import Domain, DomainRecord, DomainStatus
from postroomd.domain.queries import Slice
from postroomd.domain.records import DKIM_KIND, NEXT_DKIM_KIND, PREVIOUS_DKIM_KIND
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.idempotency import Unchanged
from postroomd.storage.protocols.rules import RotationCheck, RotationRule
from postroomd.storage.secret_keys import Sealed, SecretKeys, owner_of_dkim_key
from postroomd.storage.sql.batches import LockedBatch, write_batch
from postroomd.storage.sql.domains import DOMAIN, RECORD, lock_domain
from postroomd.storage.sql.rows import columns_of, from_row, row_filter, to_row

DKIM_KINDS = (DKIM_KIND, NEXT_DKIM_KIND, PREVIOUS_DKIM_KIND)
ROTATION = columns_of(DkimRotation, t.dkim_rotations)


class SqlDkimRotations:
    """The rotations of the DKIM keys of every tenant's domains."""

    def __init__(self, database: Database, secret_keys: SecretKeys) -> None:
        self._database = database
        self._secret_keys = secret_keys

    async def domains_named(self, name: str) -> Sequence[Domain]:
        """Return the domains of all organizations that have a name now, by their ids."""
        query = select(*DOMAIN).where(t.domains.c.name == name).order_by(t.domains.c.id)

        async def transaction(connection: AsyncConnection) -> list[Domain]:
            return [from_row(Domain, row) for row in await connection.execute(query)]

        return await self._database.read(transaction)

    async def find(self, domain_id: str) -> DkimKeys:
        """Return the keys of a domain. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> DkimKeys:
            found = await _fetch_keys(connection, [domain_id])
            if not found:
                raise NotFound("domain", domain_id)
            return found[0]

        return await self._database.read(transaction)

    async def list(self, after: str, limit: int) -> Slice[DkimKeys]:
        """Return up to `limit` domains with a rotation in progress that follow an id, by their ids."""
        column = t.dkim_rotations.c.domain_id
        query = select(column).order_by(column).limit(limit + 1)
        if after:
            query = query.where(column > after)

        async def transaction(connection: AsyncConnection) -> Slice[DkimKeys]:
            ids = list((await connection.execute(query)).scalars())
            page = await _fetch_keys(connection, ids[:limit])
            return Slice(page, ids[limit - 1] if len(ids) > limit else "")

        return await self._database.read(transaction)

    async def rotate(self, context: CallContext, domain_id: str, rule: RotationRule, now: datetime) -> DkimKeys:
        """Apply a rule to the keys of a domain, and return them. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> DkimKeys | Unchanged[DkimKeys]:
            keys = await _lock_keys(connection, domain_id)
            change = rule(keys)
            if change.new_key is not None:
                owner = owner_of_dkim_key(domain_id, change.new_key.selector)
                sealed = await asyncio.to_thread(self._secret_keys.seal, change.new_key.private_pem, owner)
                await _insert_rotation(connection, keys.domain, change.new_key, sealed, now)
            if change.switch is not None:
                await switch_key(connection, keys.domain, change.switch)
            is_changed = change.new_key is not None or change.switch is not None
            if change.look_up:
                await _request_lookup(connection, keys.domain, now, changed=is_changed)
            (changed,) = await _fetch_keys(connection, [domain_id])
            return changed if is_changed else Unchanged(changed)

        return await self._database.write(transaction, context)

    async def cancel(self, context: CallContext, domain_id: str, check: RotationCheck, now: datetime) -> DkimKeys:
        """Remove the next key of a domain unless the check raises an error, and return its keys. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> DkimKeys | Unchanged[DkimKeys]:
            keys = await _lock_keys(connection, domain_id)
            check(keys)
            if keys.rotation is None:
                return Unchanged(keys)
            await _remove_rotations(connection, [domain_id], NEXT_DKIM_KIND)
            await _request_lookup(connection, keys.domain, now, changed=True)
            (changed,) = await _fetch_keys(connection, [domain_id])
            return changed

        return await self._database.write(transaction, context)


async def retire_keys(database: Database, now: datetime, limit: int, skipping: Collection[str]) -> int:
    """Erase up to `limit` previous keys whose overlap period has ended. Returns their number. Raises RowFailed."""

    async def work(connection: AsyncConnection, batch: LockedBatch) -> int:
        due = (
            select(t.domains.c.id)
            .join(t.dkim_rotations, t.dkim_rotations.c.domain_id == t.domains.c.id)
            .where(t.dkim_rotations.c.retires_at <= now)
            .order_by(t.dkim_rotations.c.retires_at)
        )
        ids = await batch.lock(connection, due, t.domains)
        if ids:
            await _remove_rotations(connection, ids, PREVIOUS_DKIM_KIND)
        return len(ids)

    return await write_batch(database, work, limit, skipping)


async def switch_key(connection: AsyncConnection, domain: Domain, switch: KeySwitch) -> None:
    """Sign with the next key of a domain, whose row is locked, and keep the present key as the previous one."""
    domains, rotations, records = t.domains.c, t.dkim_rotations.c, t.domain_records.c
    own = (rotations.domain_id == domain.id, rotations.organization_id == domain.organization_id)
    signing = select(domains.dkim_selector, domains.dkim_private_key, domains.dkim_key_id).where(
        *row_filter(t.domains, domain)
    )
    present = (await connection.execute(signing)).one()
    following = (
        await connection.execute(select(rotations.selector, rotations.private_key, rotations.key_id).where(*own))
    ).one()
    await connection.execute(
        update(t.domains)
        .where(*row_filter(t.domains, domain))
        .values(
            dkim_selector=following.selector,
            dkim_private_key=following.private_key,
            dkim_key_id=following.key_id,
        )
    )
    await connection.execute(
        update(t.dkim_rotations)
        .where(*own)
        .values(
            selector=present.dkim_selector,
            private_key=present.dkim_private_key,
            key_id=present.dkim_key_id,
            switched_at=switch.at,
            retires_at=switch.retires_at,
        )
    )
    for before, after in KINDS_AFTER.items():
        renaming = update(t.domain_records).where(
            records.domain_id == domain.id, records.organization_id == domain.organization_id, records.kind == before
        )
        await connection.execute(renaming.values(kind=after, level=LEVELS[after]))


async def _insert_rotation(
    connection: AsyncConnection, domain: Domain, key: NewDkimKey, sealed: Sealed, now: datetime
) -> None:
    rotation = DkimRotation(
        domain_id=domain.id, organization_id=domain.organization_id, selector=key.selector, started_at=now
    )
    private_key = {"private_key": sealed.text, "key_id": sealed.key_id}
    await connection.execute(insert(t.dkim_rotations).values(to_row(rotation) | private_key))
    record = to_row(key.record) | {"organization_id": domain.organization_id}
    await connection.execute(insert(t.domain_records).values(record))


async def _remove_rotations(connection: AsyncConnection, domain_ids: Sequence[str], kind: str) -> None:
    """Erase the keys that do not sign, and their records, which are of a kind. The domains' rows are locked."""
    await connection.execute(
        delete(t.domain_records).where(t.domain_records.c.domain_id.in_(domain_ids), t.domain_records.c.kind == kind)
    )
    await connection.execute(delete(t.dkim_rotations).where(t.dkim_rotations.c.domain_id.in_(domain_ids)))


async def _request_lookup(connection: AsyncConnection, domain: Domain, now: datetime, *, changed: bool) -> None:
    """Make the lookup of a ready domain due at once.

    If the records have `changed`, a lookup that is running stores nothing: what it finds concerns the former records.
    """
    columns = t.domains.c
    requesting = update(t.domains).where(*row_filter(t.domains, domain))
    if changed:
        pending = (columns.status == DomainStatus.READY) | columns.next_check_at.is_not(None)
        requesting = requesting.where(pending).values(claim=columns.claim + 1)
    else:
        # A lookup that a caller has requested comes soon as well.
        requesting = requesting.where(columns.status == DomainStatus.READY, columns.validation_requested_at.is_(None))
    await connection.execute(requesting.values(next_check_at=now, failures=0))


async def _lock_keys(connection: AsyncConnection, domain_id: str) -> DkimKeys:
    """Lock a domain's row, and return its keys. Raises NotFound."""
    if await lock_domain(connection, domain_id) is None:
        raise NotFound("domain", domain_id)
    (keys,) = await _fetch_keys(connection, [domain_id])
    return keys


async def _fetch_keys(connection: AsyncConnection, domain_ids: Sequence[str]) -> list[DkimKeys]:
    """Return the keys of domains in the order of their ids; ids of domains that are gone are left out."""
    columns = t.domains.c
    query = select(*[*DOMAIN, columns.dkim_selector]).where(columns.id.in_(domain_ids)).order_by(columns.id)
    rows = (await connection.execute(query)).all()
    rotating = select(*ROTATION).where(t.dkim_rotations.c.domain_id.in_(domain_ids))
    rotations = {row.domain_id: from_row(DkimRotation, row) for row in await connection.execute(rotating)}
    records: dict[str, dict[str, DomainRecord]] = {}
    listing = select(*RECORD).where(
        t.domain_records.c.domain_id.in_(domain_ids), t.domain_records.c.kind.in_(DKIM_KINDS)
    )
    for row in await connection.execute(listing):
        records.setdefault(row.domain_id, {})[row.kind] = from_row(DomainRecord, row)
    return [
        DkimKeys(
            domain=from_row(Domain, row),
            selector=row.dkim_selector,
            rotation=rotations.get(row.id),
            records=records.get(row.id, {}),
        )
        for row in rows
    ]
