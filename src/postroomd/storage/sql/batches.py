"""Chunks of rows that the worker takes in one transaction, of which no row's fault keeps the others waiting."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from sqlalchemy import Select, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import WORKER
from postroomd.domain.errors import StorageUnavailable
from postroomd.storage.database import Database
from postroomd.storage.protocols.work import RowFailed

Result = TypeVar("Result")


class Chunk:
    """The ids of the rows that a transaction takes."""

    def __init__(self, limit: int, skipping: Collection[str]) -> None:
        self._limit = limit
        self._skipping = skipping
        self.ids: Sequence[str] = ()

    async def take(self, connection: AsyncConnection, waiting: Select[tuple[str]], table: Table) -> Sequence[str]:
        """The ids of rows of a table that wait, each locked; those that others hold are left to them.

        Their other columns are read later: what can't be read of one is its fault.
        """
        self.ids = ()
        if self._skipping:
            waiting = waiting.where(table.c.id.not_in(self._skipping))
        waiting = waiting.limit(self._limit).with_for_update(of=table, skip_locked=True)
        self.ids = [row.id for row in await connection.execute(waiting)]
        return self.ids


async def write_batch(
    database: Database,
    work: Callable[[AsyncConnection, Chunk], Awaitable[Result]],
    limit: int,
    skipping: Collection[str],
) -> Result:
    """What `work` answers of a chunk of rows, in one transaction; of one row alone where the chunk fails unexpectedly.

    Raises RowFailed for a row that fails alone.
    """
    chunk = Chunk(limit, skipping)
    try:
        return await database.write(lambda connection: work(connection, chunk), WORKER)
    except StorageUnavailable:
        raise
    except Exception as error:
        match chunk.ids:
            case []:
                raise
            case [row_id]:
                raise RowFailed(row_id) from error
    return await write_batch(database, work, 1, skipping)
