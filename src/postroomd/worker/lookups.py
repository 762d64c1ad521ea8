"""Pool of concurrent DNS lookups: filled as slots become free, and shared fairly by organizations."""

import asyncio
from collections import Counter
from collections.abc import Collection
from datetime import datetime

from postroomd.observability.steps import StepKind
from postroomd.worker.backoff import Backoff
from postroomd.worker.steps import Worker

MAX_LOOKUPS = 20  # of which an organization alone uses half, see `Work.lease_domains`


class LookupPool:
    """The running lookups of one worker."""

    def __init__(self, worker: Worker, backoff: Backoff) -> None:
        self._worker = worker
        self._backoff = backoff
        self._organizations: dict[asyncio.Task[None], str] = {}

    @property
    def tasks(self) -> Collection[asyncio.Task[None]]:
        """The running lookups."""
        return self._organizations.keys()

    async def fill(self, now: datetime) -> int:
        """Lease due domains for the free slots and start their lookups. Returns their number.

        Raises StorageUnavailable.
        """
        free = MAX_LOOKUPS - len(self._organizations)
        if free <= 0:
            return 0
        running = Counter(self._organizations.values())

        async def start(skipping: Collection[str]) -> int:
            leases = await self._worker.lease_lookups(now, free, running, skipping)
            for lease in leases:
                task = asyncio.create_task(self._worker.look_up(lease, now))
                self._organizations[task] = lease.domain.organization_id
            return len(leases)

        return await self._backoff.run(StepKind.DNS_LOOKUP, start, now) or 0

    def collect(self) -> int:
        """Free the slots of ended lookups. Returns their number. Raises StorageUnavailable if one could not store."""
        ended = [task for task in self._organizations if task.done()]
        for task in ended:
            del self._organizations[task]
        unavailable = [error for error in (task.exception() for task in ended) if error is not None]
        if unavailable:
            raise unavailable[0]
        return len(ended)

    async def close(self) -> None:
        """Wait for the running lookups. Raises StorageUnavailable if one could not store."""
        if self._organizations:
            await asyncio.wait(self._organizations)
        self.collect()
