"""Leases of due rows, and the postponement of a failed step."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Row, Select, Table, Update, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import WORKER
from postroomd.storage.database import Database
from postroomd.storage.sql.batches import LockedBatch


async def lease_rows(
    connection: AsyncConnection,
    batch: LockedBatch,
    table: Table,
    due: Column[Any],
    now: datetime,
    lease: timedelta,
    candidates: Select[tuple[str]] | None = None,
) -> Sequence[str]:
    """Lease due rows, by default the longest overdue first, until the lease expires. Returns their ids."""
    if candidates is None:
        candidates = select(table.c.id).where(due <= now).order_by(due)
    ids = await batch.lock(connection, candidates, table)
    if ids:
        leased = {due: now + lease, table.c.claim: table.c.claim + 1}
        await connection.execute(update(table).where(table.c.id.in_(ids)).values(leased))
    return ids


def in_order(ids: Sequence[str], rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Return rows in the order of their ids."""
    by_id = {row.id: row for row in rows}
    return [by_id[row_id] for row_id in ids]


async def postpone_row(database: Database, statement: Update, **due: datetime) -> None:
    """Run an update of a leased row that counts a failed step and makes the next attempt due at an instant."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(statement.values(failures=statement.table.c.failures + 1, **due))

    await database.write(work, WORKER)
