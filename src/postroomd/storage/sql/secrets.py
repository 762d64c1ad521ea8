"""The encryption of private DKIM keys, and its renewal while services and workers run."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.encryption import KeyCounts, Reencryption
from postroomd.domain.errors import SecretKeyFileError
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.idempotency import Unchanged
from postroomd.storage.secret_keys import SETTING, Sealed, SecretKeys, owner_of_dkim_key

_DOMAINS, _ROTATIONS = t.domains.c, t.dkim_rotations.c


class SqlSecrets:
    """The private DKIM keys as they are stored: of domains, and of rotations in progress."""

    def __init__(self, database: Database, keys: SecretKeys) -> None:
        self._database = database
        self._keys = keys

    async def require_keys(self) -> None:
        """Raise SecretKeyError if private keys are encrypted with a key that this process does not have."""
        used = await self._database.read(_key_ids)
        await asyncio.to_thread(self._keys.require, used)

    async def counts(self) -> KeyCounts:
        """Return the number of private keys by the key that encrypts them."""

        async def transaction(connection: AsyncConnection) -> KeyCounts:
            counts: Counter[str | None] = Counter()
            for column in (_DOMAINS.dkim_key_id, _ROTATIONS.key_id):
                query = select(column.label("key_id"), func.count().label("total")).group_by(column)
                counts.update({row.key_id: row.total for row in await connection.execute(query)})
            return counts

        return await self._database.read(transaction)

    async def reencrypt(self, after: str, limit: int, context: CallContext | None = None) -> Reencryption:
        """Encrypt the private keys of up to `limit` domains after an id with the present key."""
        key_id = await asyncio.to_thread(lambda: self._keys.current_id)
        if key_id is None:
            raise SecretKeyFileError(f"{SETTING}: set it to the file with the keys, the present one first")

        async def transaction(connection: AsyncConnection) -> Reencryption | Unchanged[Reencryption]:
            # The rows of domains are locked: a rotation exchanges the keys of the two tables under this lock.
            differs = _differs(_DOMAINS.dkim_key_id, key_id)
            differs |= _ROTATIONS.domain_id.is_not(None) & _differs(_ROTATIONS.key_id, key_id)
            query = (
                select(_DOMAINS.id)
                .join(t.dkim_rotations, _ROTATIONS.domain_id == _DOMAINS.id, isouter=True)
                .where(differs)
                .order_by(_DOMAINS.id)
                .limit(limit)
                .with_for_update(of=t.domains)
            )
            if after:
                query = query.where(_DOMAINS.id > after)
            ids = list((await connection.execute(query)).scalars())
            former: Counter[str | None] = Counter()
            former += await self._renew(
                connection, t.domains, ids, key_id, ("id", "dkim_selector", "dkim_private_key", "dkim_key_id")
            )
            former += await self._renew(
                connection, t.dkim_rotations, ids, key_id, ("domain_id", "selector", "private_key", "key_id")
            )
            encrypted = former.pop(None, 0)
            result = Reencryption(
                key_id=key_id,
                encrypted=encrypted,
                reencrypted=former.total(),
                last_id=ids[-1] if len(ids) == limit else None,
            )
            return result if ids else Unchanged(result)

        return await self._database.write(transaction, context)

    async def _renew(
        self,
        connection: AsyncConnection,
        table: Table,
        ids: Sequence[str],
        key_id: str,
        columns: tuple[str, str, str, str],
    ) -> Counter[str | None]:
        """Encrypt the private keys of domains in one table with the present key. Returns their number by former key.

        `columns` are those of the domain, the selector, the private key, and the key that encrypts it.
        """
        domain, selector, private_key, encrypted_by = (table.c[name] for name in columns)
        query = select(domain, selector, private_key, encrypted_by).where(
            domain.in_(ids), _differs(encrypted_by, key_id)
        )
        found = [tuple(row) for row in await connection.execute(query)]
        if not found:
            return Counter()
        renewed = await asyncio.to_thread(self._seal_again, found)
        updating = (
            update(table)
            .where(domain == bindparam("of"))
            .values({private_key: bindparam("text"), encrypted_by: bindparam("by")})
        )
        await connection.execute(updating, renewed)
        return Counter(row[3] for row in found)

    def _seal_again(self, rows: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
        renewed = []
        for domain_id, selector, text, key_id in rows:
            owner = owner_of_dkim_key(domain_id, selector)
            sealed = self._keys.seal(self._keys.open(Sealed(text, key_id), owner), owner)
            renewed.append({"of": domain_id, "text": sealed.text, "by": sealed.key_id})
        return renewed


async def _key_ids(connection: AsyncConnection) -> list[str]:
    """Return the ids of the keys that encrypt private keys: one search of an index for each."""
    found: set[str] = set()
    for column in (_DOMAINS.dkim_key_id, _ROTATIONS.key_id):
        last = ""
        while last is not None:
            query = select(func.min(column)).where(column.is_not(None), column > last)
            last = (await connection.execute(query)).scalar_one()
            found |= {last} - {None}
    return sorted(found)


def _differs(column: Column[Any], key_id: str) -> ColumnElement[bool]:
    return column.is_distinct_from(key_id)
