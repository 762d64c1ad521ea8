"""A streaming replica of PostgreSQL that serves lists, never staler than promised.

How stale it is is measured without writing anything: the primary's log position is noted every half second, and the
replica is as fresh as the newest note that it has replayed. Once that note is older than the bound, or the replica
or the primary can't be asked, lists go to the primary.
"""

import asyncio
from collections import deque
from time import monotonic

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.observability.logs import get_logger
from postroomd.storage.drivers.engines import Engines
from postroomd.storage.failures import is_out_of_reach

PROBE_SECONDS = 0.5

# Positions in the write-ahead log as octets since its beginning. A server that is not in recovery is no replica: it
# may be a primary of its own history, and answers NULL.
_WRITTEN = text("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
_REPLAYED = text("SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint WHERE pg_is_in_recovery()")

log = get_logger()


class Replica:
    """The connections to a replica, and whether it may serve now. Needs a running event loop."""

    def __init__(self, engines: Engines, primary: AsyncEngine, max_staleness_seconds: float) -> None:
        self.engines = engines
        self._primary = primary
        self._max_staleness = max_staleness_seconds
        self._fresh_at = float("-inf")  # by the monotonic clock: what was committed before has been replayed
        self._notes: deque[tuple[float, int]] = deque(maxlen=1 + int(max_staleness_seconds / PROBE_SECONDS) * 2)
        self._usable = False
        self._probes = asyncio.create_task(self._probe_forever())

    def usable(self) -> bool:
        """Whether what the replica answers now is fresh enough."""
        return self._usable and monotonic() - self._fresh_at <= self._max_staleness

    def lost(self) -> None:
        """Take the replica out of use until a probe reaches it again."""
        if self._usable:
            log.warning("replica lost: lists are served by the primary")
        self._usable = False

    async def close(self) -> None:
        """Close every connection."""
        self._probes.cancel()
        await self.engines.close()

    async def _probe_forever(self) -> None:
        while True:
            try:
                await self._probe()
            except Exception as error:
                if not is_out_of_reach(error):
                    log.exception("replica probe failed")
                self.lost()
            await asyncio.sleep(PROBE_SECONDS)

    async def _probe(self) -> None:
        noted_at = monotonic()  # before the primary is asked: what it says then was true of this instant at the latest
        written = await _position(self._primary, _WRITTEN)
        replayed = await _position(self.engines.reader, _REPLAYED)
        if written is None or replayed is None:
            self.lost()
            return
        self._notes.append((noted_at, written))
        while self._notes and self._notes[0][1] <= replayed:
            self._fresh_at = self._notes.popleft()[0]
        if not self._usable:
            log.info("replica in use")
        self._usable = True


async def _position(engine: AsyncEngine, statement: TextClause) -> int | None:
    async with engine.connect() as connection:
        position: int | None = (await connection.execute(statement)).scalar()
        return position
