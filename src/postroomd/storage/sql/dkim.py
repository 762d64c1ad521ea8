"""Reads of the private DKIM keys of every tenant's domains."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.model import OWNING_STATUSES
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.protocols.dkim import SigningKey
from postroomd.storage.secret_keys import Sealed, SecretKeys, owner_of_dkim_key


class SqlSigningKeys:
    """The keys of the domains that own their names, read through the index of owned names."""

    def __init__(self, database: Database, secret_keys: SecretKeys) -> None:
        self._database = database
        self._secret_keys = secret_keys

    async def page(self, after: str, limit: int) -> Sequence[SigningKey]:
        """Return the keys of up to `limit` domains whose names follow a name, in the order of the names."""
        columns, rotations = t.domains.c, t.dkim_rotations.c
        # The statuses are literals, because SQLite uses the partial index of owned names for literals only.
        owning = columns.status.in_(bindparam("owning", OWNING_STATUSES, expanding=True, literal_execute=True))
        previous = (rotations.domain_id == columns.id) & rotations.switched_at.is_not(None)
        query = (
            select(
                columns.id,
                columns.name,
                columns.dkim_selector,
                columns.dkim_private_key,
                columns.dkim_key_id,
                rotations.selector.label("previous_selector"),
                rotations.private_key.label("previous_private_key"),
                rotations.key_id.label("previous_key_id"),
            )
            .join(t.dkim_rotations, previous, isouter=True)
            .where(owning, columns.name > after)
            .order_by(columns.name)
            .limit(limit)
        )

        async def transaction(connection: AsyncConnection) -> Sequence[Any]:
            return (await connection.execute(query)).all()

        rows = await self._database.read(transaction)
        return await asyncio.to_thread(lambda: [key for row in rows for key in self._keys(row)])

    def _keys(self, row: Any) -> Iterator[SigningKey]:
        """Yield the key that signs, and the previous one if there is one. Raises SecretKeyError."""
        stored = [(row.dkim_selector, Sealed(row.dkim_private_key, row.dkim_key_id), True)]
        if row.previous_selector is not None:
            stored.append((row.previous_selector, Sealed(row.previous_private_key, row.previous_key_id), False))
        for selector, sealed, signs in stored:
            yield SigningKey(
                domain_id=row.id,
                name=row.name,
                selector=selector,
                private_pem=self._secret_keys.open(sealed, owner_of_dkim_key(row.id, selector)),
                signs=signs,
            )
