"""A streaming replica that serves lists, never staler than a given bound.

Staleness is measured without writing: the primary's position in its write-ahead log is sampled every half second, and
the replica is as fresh as the newest sample that it has replayed. When that sample exceeds the bound, or either server
cannot be reached, the primary serves the lists.
"""

import asyncio
from collections import deque
from time import monotonic

from postroomd.observability.logs import get_logger
from postroomd.storage.drivers.base import Engines
from postroomd.storage.failures import is_unavailable

PROBE_SECONDS = 0.5

log = get_logger()


class Replica:
    """The connections to a replica, and whether it may serve now. Needs a running event loop."""

    def __init__(self, engines: Engines, primary: Engines, max_staleness_seconds: float) -> None:
        self.engines = engines
        self._primary = primary
        self._max_staleness = max_staleness_seconds
        self._fresh_at = float("-inf")  # monotonic: the replica has replayed everything committed before
        self._samples: deque[tuple[float, int]] = deque(maxlen=1 + int(max_staleness_seconds / PROBE_SECONDS) * 2)
        self._usable = False
        self._probes = asyncio.create_task(self._probe_forever())

    def usable(self) -> bool:
        """Return whether a read of the replica is fresh enough now."""
        return self._usable and monotonic() - self._fresh_at <= self._max_staleness

    def suspend(self) -> None:
        """Take the replica out of use until a probe reaches it again."""
        if self._usable:
            log.warning("replica unavailable, lists served by primary")
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
                if not is_unavailable(error):
                    log.exception("replica probe failed")
                self.suspend()
            await asyncio.sleep(PROBE_SECONDS)

    async def _probe(self) -> None:
        sampled_at = monotonic()  # before the query: the position was reached by this instant at the latest
        written = await self._primary.driver.written_position(self._primary.reader)
        replayed = await self.engines.driver.replayed_position(self.engines.reader)
        if written is None or replayed is None:
            self.suspend()
            return
        self._samples.append((sampled_at, written))
        while self._samples and self._samples[0][1] <= replayed:
            self._fresh_at = self._samples.popleft()[0]
        if not self._usable:
            log.info("replica in use")
        self._usable = True
