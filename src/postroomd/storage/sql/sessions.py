"""Sessions on the mail server that have to end, because their mailboxes may no longer log in, or not as before."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import WORKER
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.protocols.sessions import SessionEnd
from postroomd.storage.sql.batches import LockedBatch, write_batch
from postroomd.storage.sql.leases import in_order, lease_rows

_COLUMNS = t.session_ends.c


async def request_session_end(
    connection: AsyncConnection, organization_id: str, login_mask: str, now: datetime
) -> None:
    """Request the end of the sessions whose login matches the mask, in the transaction that is the reason for it."""
    row = {"id": str(uuid4()), "organization_id": organization_id, "login_mask": login_mask, "due_at": now}
    await connection.execute(insert(t.session_ends).values(row))


class SqlSessionEnds:
    """The requests, as the worker handles them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lease(
        self, now: datetime, lease: timedelta, limit: int, skipping: Collection[str] = ()
    ) -> Sequence[SessionEnd]:
        """Lease requests that are due, the longest overdue first. Raises RowFailed."""

        async def work(connection: AsyncConnection, batch: LockedBatch) -> list[SessionEnd]:
            ids = await lease_rows(connection, batch, t.session_ends, _COLUMNS.due_at, now, lease)
            if not ids:
                return []
            listing = select(t.session_ends).where(_COLUMNS.id.in_(ids))
            rows = in_order(ids, (await connection.execute(listing)).all())
            return [SessionEnd(row.id, row.login_mask, row.carried_out, row.claim, row.failures) for row in rows]

        return await write_batch(self._database, work, limit, skipping)

    async def complete(self, ended: Sequence[SessionEnd], repeat_at: datetime) -> None:
        """Make requests that were carried out once due again, and remove those that were carried out twice."""
        await self._change(ended, repeat_at, failed=False)

    async def postpone(self, failed: Sequence[SessionEnd], until: datetime) -> None:
        """Count a failure of requests, and make them due at an instant."""
        await self._change(failed, until, failed=True)

    async def discard(self, now: datetime, limit: int) -> int:
        """Remove requests that are due, for a worker that knows no mail server. Returns their number."""

        async def work(connection: AsyncConnection) -> int:
            due = select(_COLUMNS.id).where(_COLUMNS.due_at <= now).limit(limit)
            ids = [row.id for row in await connection.execute(due)]
            if ids:
                await connection.execute(delete(t.session_ends).where(_COLUMNS.id.in_(ids)))
            return len(ids)

        return await self._database.write(work, WORKER)

    async def _change(self, requests: Sequence[SessionEnd], due_at: datetime, *, failed: bool) -> None:
        async def work(connection: AsyncConnection) -> None:
            for request in requests:
                held = (_COLUMNS.id == request.id, _COLUMNS.claim == request.generation)
                if request.carried_out and not failed:
                    await connection.execute(delete(t.session_ends).where(*held))
                    continue
                outcome = {"failures": request.failures + 1} if failed else {"failures": 0, "carried_out": True}
                await connection.execute(update(t.session_ends).where(*held).values(due_at=due_at, **outcome))

        await self._database.write(work, WORKER)
