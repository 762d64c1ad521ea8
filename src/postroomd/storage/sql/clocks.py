"""Storage of the workers' heartbeats, and of the operator's acceptances of a clock."""

from datetime import datetime

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.clock_leaps import ClockAcceptance, WorkerClock
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.drivers import driver_of
from postroomd.storage.protocols.clocks import ClockRecords
from postroomd.storage.sql.rows import columns_of, from_row, to_row

HEARTBEAT = columns_of(WorkerClock, t.worker_clocks)
ACCEPTANCE = columns_of(ClockAcceptance, t.clock_acceptances)


class SqlClocks:
    """The heartbeats and acceptances, which belong to no tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> ClockRecords:
        """Return all heartbeats, the latest trusted time first, with the latest acceptance."""

        async def transaction(connection: AsyncConnection) -> ClockRecords:
            listing = select(*HEARTBEAT).order_by(t.worker_clocks.c.trusted_at.desc(), t.worker_clocks.c.time_scale)
            heartbeats = [from_row(WorkerClock, row) for row in await connection.execute(listing)]
            latest = select(*ACCEPTANCE).order_by(t.clock_acceptances.c.id.desc()).limit(1)
            row = (await connection.execute(latest)).one_or_none()
            acceptance = from_row(ClockAcceptance, row) if row else None
            return ClockRecords(heartbeats, acceptance, await driver_of(connection).server_time(connection))

        return await self._database.read(transaction)

    async def beat(self, heartbeat: WorkerClock, forget_before: datetime) -> None:
        """Store the heartbeat of a time scale, and remove those of others that were last trusted before an instant."""
        columns = t.worker_clocks.c

        async def transaction(connection: AsyncConnection) -> None:
            own = columns.time_scale == heartbeat.time_scale
            await connection.execute(delete(t.worker_clocks).where(own | (columns.trusted_at < forget_before)))
            await connection.execute(insert(t.worker_clocks).values(to_row(heartbeat)))

        await self._database.write(transaction)

    async def accept(self, now: datetime) -> ClockAcceptance:
        """Store the operator's acceptance of a clock that shows `now`, and remove the heartbeats of unresolved leaps.

        Running workers store theirs again: a worker of another clock than the accepted one goes on to pause.
        """

        async def transaction(connection: AsyncConnection) -> ClockAcceptance:
            await connection.execute(delete(t.worker_clocks).where(t.worker_clocks.c.leapt_to.is_not(None)))
            last = (await connection.execute(select(func.max(t.clock_acceptances.c.id)))).scalar_one()
            database_at = await driver_of(connection).server_time(connection)
            acceptance = ClockAcceptance((last or 0) + 1, now, database_at)
            await connection.execute(insert(t.clock_acceptances).values(to_row(acceptance)))
            return acceptance

        return await self._database.write(transaction)
