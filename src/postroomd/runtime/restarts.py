"""Restarts of the supervisor's children: with backoff, for as long as the supervisor runs."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from postroomd.domain.backoff import backoff_delay
from postroomd.observability.exposition import forget_process
from postroomd.observability.logs import get_logger
from postroomd.runtime.forking import Child, exec_child
from postroomd.settings import Settings

FIRST_RESTART, MAX_RESTART = timedelta(seconds=1), timedelta(seconds=30)
STABLE_SECONDS = 60.0  # of readiness, after which an exit is the first of a new series

log = get_logger(__name__)


class Restarts:
    """Keeps children running that have been ready once. `children` maps each name to the current child.

    A child that fails to start again, such as while the database is down, is tried again like one that crashes.
    """

    def __init__(self, children: dict[str, Child], settings: Settings, grpc_addresses: Mapping[str, str]) -> None:
        self._children = children
        self._settings = settings
        self._grpc_addresses = grpc_addresses
        self._watching: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Restart children until this call is cancelled."""
        async with asyncio.TaskGroup() as keeping:
            for name in self._children:
                keeping.create_task(self._keep(name))

    async def _keep(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        ready_at: float | None = loop.time()
        while True:
            child = self._children[name]
            await asyncio.wait({child.exited})
            if ready_at is not None and loop.time() - ready_at >= STABLE_SECONDS:
                failures = 0
            forget_process(child.pid)
            delay = backoff_delay(failures, FIRST_RESTART, MAX_RESTART).total_seconds()
            log.error("process exited, restarting it", reason=child.exit_reason(), delay_seconds=delay)
            failures += 1
            await asyncio.sleep(delay)
            child = self._children[name] = exec_child(name, self._settings, self._grpc_addresses[name])
            self._watch(child)
            events: list[asyncio.Future[Any]] = [child.ready, child.exited]
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            ready_at = loop.time() if child.ready.done() else None
            if ready_at is not None:
                log.info("process restarted", child=name, pid=child.pid)

    def _watch(self, child: Child) -> None:
        task = asyncio.create_task(child.watch())
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
