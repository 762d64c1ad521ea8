"""The health status of the service, from the state of its database and its clock."""

import asyncio
from contextlib import suppress
from time import monotonic

from postroomd.clock_watch import ClockWatch
from postroomd.domain.errors import StorageUnavailable
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import DATABASE_UP
from postroomd.rpc.health import Health
from postroomd.storage.protocols.repository import Repository

HEALTH_INTERVAL_SECONDS = 1.0
VERIFICATION_INTERVAL_SECONDS = 60.0  # of an intact database: another one may be restored in its place

TIME_UNKNOWN = "the clock has leapt: set it, or run `postroom clock accept` if it is right"

log = get_logger()


class HealthUpdates:
    """Sets the health status of services: SERVING while the database responds and is complete, and the time known."""

    def __init__(self, repository: Repository, health: Health, watch: ClockWatch) -> None:
        self._repository = repository
        self._watch = watch
        self._health = health
        self._verified_at = float("-inf")
        self._faults = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Update the status until `stop` is set."""
        while not stop.is_set():
            await self.update()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), HEALTH_INTERVAL_SECONDS)

    async def update(self) -> None:
        """Set the status from what the database responds, and the clock shows, now."""
        self._watch.check()
        try:
            await self._repository.ping()
            await self._watch.update()
            if self._faults or monotonic() - self._verified_at > VERIFICATION_INTERVAL_SECONDS:
                await self._verify()
        except StorageUnavailable as error:
            responds, reason = False, error.reason or "the database is unavailable"
        else:
            responds, reason = True, self._faults or ("" if self._watch.knows_time else TIME_UNKNOWN)
        DATABASE_UP.set(responds)
        self._health.set(reason)

    async def _verify(self) -> None:
        faults = "; ".join(await self._repository.faults())
        explained = f"{faults}: run `postroom migrate`, as after every restore of a dump" if faults else ""
        if explained and explained != self._faults:
            log.error("database incomplete", reason=explained)
        elif self._faults and not explained:
            log.info("database complete")
        self._faults = explained
        self._health.calls_refused = bool(explained)
        self._verified_at = monotonic()
