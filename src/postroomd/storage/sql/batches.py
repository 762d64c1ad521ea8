"""Batches of rows that the worker handles in one transaction, isolated from the failure of a single row."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from sqlalchemy import Select, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import WORKER
from postroomd.domain.errors import StorageUnavailable
from postroomd.storage.database import Database
from postroomd.storage.protocols.work import RowFailed

Result = TypeVar("Result")


class LockedBatch:
    """The rows that a transaction locks: at most `limit`, without those in `skipping`."""

    def __init__(self, limit: int, skipping: Collection[str]) -> None:
        self._limit = limit
        self._skipping = skipping
        self.ids: Sequence[str] = ()

    async def lock(self, connection: AsyncConnection, candidates: Select[tuple[str]], table: Table) -> Sequence[str]:
        """Lock candidate rows of a table, and return their ids; rows that others have locked are skipped.

        Other columns are read by a later statement, so that a row that can't be decoded fails by its id.
        """
        self.ids = ()
        if self._skipping:
            candidates = candidates.where(table.c.id.not_in(self._skipping))
        candidates = candidates.limit(self._limit).with_for_update(of=table, skip_locked=True)
        self.ids = [row.id for row in await connection.execute(candidates)]
        return self.ids


async def write_batch(
    database: Database,
    work: Callable[[AsyncConnection, LockedBatch], Awaitable[Result]],
    limit: int,
    skipping: Collection[str],
) -> Result:
    """Run `work` on a batch in one transaction; if it fails unexpectedly, run it on one row.

    Returns its result. Raises RowFailed if the one row fails too.
    """
    batch = LockedBatch(limit, skipping)
    try:
        return await database.write(lambda connection: work(connection, batch), WORKER)
    except StorageUnavailable:
        raise
    except Exception as error:
        match batch.ids:
            case []:
                raise
            case [row_id]:
                raise RowFailed(row_id) from error
    return await write_batch(database, work, 1, skipping)
