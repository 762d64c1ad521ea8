"""Pool of concurrent DNS lookups: filled as slots become free, and shared fairly by organizations."""

import asyncio
from collections import Counter
from collections.abc import Collection
from datetime import datetime

from postroomd.observability.steps import StepKind
from postroomd.storage.protocols.work import DomainLease, LookupShare
from postroomd.worker.backoff import Backoff
from postroomd.worker.steps import Worker

MAX_LOOKUPS = 20
MAX_LOOKUPS_PER_ORGANIZATION = 10  # its unresponsive name servers leave slots to the other organizations
MAX_REMEMBERED = 10_000  # domains whose last lookup is remembered


class LookupPool:
    """The running lookups of one worker.

    A domain that is requested again within `min_lookup_interval` of its last lookup waits in its slot. The interval is
    kept in memory: several workers look up one domain once each per interval.
    """

    def __init__(self, worker: Worker, backoff: Backoff) -> None:
        self._worker = worker
        self._backoff = backoff
        self._loop = asyncio.get_running_loop()
        self._organizations: dict[asyncio.Task[None], str] = {}
        self._ended: dict[str, float] = {}  # domain -> loop time at the end of its last lookup

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
        share = LookupShare(MAX_LOOKUPS_PER_ORGANIZATION, Counter(self._organizations.values()))

        async def start(skipping: Collection[str]) -> int:
            leases = await self._worker.lease_lookups(now, free, share, skipping)
            for lease in leases:
                task = asyncio.create_task(self._look_up(lease, now))
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

    async def _look_up(self, lease: DomainLease, now: datetime) -> None:
        domain_id = lease.domain.id
        interval = self._worker.min_lookup_interval.total_seconds()
        last = self._ended.pop(domain_id, None)
        if last is not None:
            await asyncio.sleep(last + interval - self._loop.time())
        try:
            await self._worker.look_up(lease, now)
        finally:
            if len(self._ended) >= MAX_REMEMBERED:
                del self._ended[next(iter(self._ended))]  # the oldest
            self._ended[domain_id] = self._loop.time()
