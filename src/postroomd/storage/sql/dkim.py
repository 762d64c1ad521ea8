"""Reads of the private DKIM keys of every tenant's domains."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.protocols.dkim import SigningKey


class SqlSigningKeys:
    """The keys of the domains that own their names, read through the index of owned names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, after: str, limit: int) -> Sequence[SigningKey]:
        """Return the keys of up to `limit` domains whose names follow a name, in the order of the names."""
        columns, rotations = t.domains.c, t.dkim_rotations.c
        # The statuses are literals, because SQLite uses the partial index of owned names for literals only.
        owning = columns.status.in_(bindparam("owning", t.OWNING_STATUSES, expanding=True, literal_execute=True))
        previous = (rotations.domain_id == columns.id) & rotations.switched_at.is_not(None)
        query = (
            select(
                columns.id,
                columns.name,
                columns.dkim_selector,
                columns.dkim_private_key,
                rotations.selector.label("previous_selector"),
                rotations.private_key.label("previous_private_key"),
            )
            .join(t.dkim_rotations, previous, isouter=True)
            .where(owning, columns.name > after)
            .order_by(columns.name)
            .limit(limit)
        )

        async def transaction(connection: AsyncConnection) -> list[SigningKey]:
            return [key for row in await connection.execute(query) for key in _keys(row)]

        return await self._database.read(transaction)


def _keys(row: Any) -> Iterator[SigningKey]:
    """Yield the key that signs, and the previous one if there is one."""
    yield SigningKey(domain_id=row.id, name=row.name, selector=row.dkim_selector, private_pem=row.dkim_private_key)
    if row.previous_selector is not None:
        yield SigningKey(
            domain_id=row.id,
            name=row.name,
            selector=row.previous_selector,
            private_pem=row.previous_private_key,
            signs=False,
        )
