"""The files of a database in use: their upkeep, and their faults, each of which is logged once and counted."""

import asyncio
from collections.abc import Awaitable, Callable

from postroomd.domain.errors import StorageUnavailable
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import DATABASE_FAULTS
from postroomd.storage.drivers.base import Engines, Fault, FaultKind

CHECK_SECONDS = 1.0

MAY_BE_MISSING = "may be missing"
STORED = "are in the database file"

log = get_logger()


class DatabaseFiles:
    """The files as one process has met them. A lasting fault stays; another ends with the next success.

    After a lasting fault, changes are refused. If a file was deleted or replaced, so is everything else, and every
    connection is closed: they have other files open than a new one would, and the two would damage each other.
    PostgreSQL's files are its server's, and have no fault here.
    """

    def __init__(self, engines: Engines, wait_for_transactions: Callable[[], Awaitable[None]]) -> None:
        self._engines = engines
        self._wait_for_transactions = wait_for_transactions
        self._fault: Fault | None = None
        self._unreadable: Fault | None = None  # at the latest check
        self._checked = False
        self._detached = False
        self._upkeep = asyncio.ensure_future(engines.upkeep()) if engines.upkeep else None
        self._watching = asyncio.create_task(self._watch()) if engines.check_files else None

    def require_attached(self) -> None:
        """Raise StorageUnavailable, with the reason, if the files were deleted or replaced."""
        if self._detached:
            self.require_writable()

    def require_writable(self) -> None:
        """Raise StorageUnavailable, with the reason, after a lasting fault."""
        if self._fault and self._fault.lasting:
            raise StorageUnavailable(reason=self._fault.cause)

    async def require_intact(self) -> None:
        """Raise StorageUnavailable, with the reason, after a lasting fault, or if the files can't be read now."""
        if not self._checked:
            await self._check()
        self.require_writable()
        if self._unreadable:
            raise StorageUnavailable(reason=self._unreadable.cause)

    def report(self, fault: Fault) -> None:
        """Record a fault and count it. It is logged unless it is already known, or follows a lasting one."""
        DATABASE_FAULTS.labels(fault.kind).inc()
        if self._fault and (self._fault.lasting or self._fault.kind is fault.kind):
            return
        self._fault = fault
        self._log(fault, MAY_BE_MISSING if fault.lasting else None)

    def written(self) -> None:
        """End a fault that does not last, after a transaction that has succeeded."""
        if self._fault and not self._fault.lasting:
            log.info("database fault ended", kind=self._fault.kind)
            self._fault = None

    async def close(self) -> None:
        """End the upkeep and the checks."""
        tasks = [task for task in (self._upkeep, self._watching) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # one may hold a connection

    async def _watch(self) -> None:
        while not (self._fault and self._fault.lasting):
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self._check()
            except Exception as error:  # of any kind: the next one may succeed
                log.warning("check of the database's files failed", error=type(error).__name__)

    async def _check(self) -> None:
        if self._engines.check_files is None:
            return
        fault = self._unreadable = await self._engines.check_files()
        self._checked = True
        if fault is None or (self._fault and self._fault.lasting):
            return
        if fault.kind.detaches:
            await self._detach(fault)
        else:
            self.report(fault)

    async def _detach(self, fault: Fault) -> None:
        """Store what can be stored, and close every connection."""
        DATABASE_FAULTS.labels(fault.kind).inc()
        self._fault, self._detached = fault, True  # before anything else: no further transaction begins
        if self._upkeep:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
        await self._wait_for_transactions()
        writes: str | None = MAY_BE_MISSING
        if fault.kind is FaultKind.LOG_REPLACED and self._engines.rescue:
            stored = await self._engines.rescue()
            writes = {True: STORED, False: MAY_BE_MISSING, None: None}[stored]
        self._log(fault, writes)
        await self._engines.close()

    def _log(self, fault: Fault, acknowledged_writes: str | None) -> None:
        writes = {"acknowledged_writes": acknowledged_writes} if acknowledged_writes else {}
        log.error("database fault", kind=fault.kind, cause=fault.cause, **writes)
