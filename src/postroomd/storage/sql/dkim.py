"""Reads of the private DKIM keys of every tenant's domains."""

from collections.abc import Sequence

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
        """Return up to `limit` keys whose domain names follow a name, in the order of the names."""
        columns = t.domains.c
        # The statuses are literals, because SQLite uses the partial index of owned names for literals only.
        owning = columns.status.in_(bindparam("owning", t.OWNING_STATUSES, expanding=True, literal_execute=True))
        query = (
            select(columns.id, columns.name, columns.dkim_selector, columns.dkim_private_key)
            .where(owning, columns.name > after)
            .order_by(columns.name)
            .limit(limit)
        )

        async def transaction(connection: AsyncConnection) -> list[SigningKey]:
            return [
                SigningKey(
                    domain_id=row.id, name=row.name, selector=row.dkim_selector, private_pem=row.dkim_private_key
                )
                for row in await connection.execute(query)
            ]

        return await self._database.read(transaction)
