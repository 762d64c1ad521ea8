"""Every scenario: its fault, its engines, and the number of faults in a full run."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from bench.chaos.disk import open_on_tmpfs
from bench.chaos.harness import ChaosHarness, open_harness
from bench.chaos.outcome import Outcome
from bench.chaos.scenarios import (
    answer_lost,
    cancelled,
    clock_leap,
    disk_full,
    file_damaged,
    log_deleted,
    log_growth,
    postgres_killed,
    restarted,
    restored_dump,
    same_address,
    second_service,
    service_killed,
)
from bench.engine import BOTH, Engine

QUICK_DIVISOR = 50


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of fault, injected `count` times in a full run."""

    name: str
    fault: str
    count: int
    run: Callable[[ChaosHarness, int], Awaitable[Outcome]]
    engines: tuple[Engine, ...] = BOTH
    open_harness: Callable[[Engine], AbstractAsyncContextManager[ChaosHarness]] = open_harness

    @property
    def quick_count(self) -> int:
        """The number of faults in a quick run."""
        return max(1, self.count // QUICK_DIVISOR)


SCENARIOS = (
    Scenario("service-killed", "kill -9 of the service under load", 200, service_killed.run),
    Scenario(
        "postgres-killed", "kill -9 of PostgreSQL under load", 50, postgres_killed.run, engines=(Engine.POSTGRESQL,)
    ),
    Scenario(
        "answer-lost", "response lost after the commit, call retried with its idempotency key", 500, answer_lost.run
    ),
    Scenario("same-address", "50 clients create the same address concurrently", 2_000, same_address.run),
    Scenario("cancelled", "client cancels at a random time", 5_000, cancelled.run),
    Scenario("disk-full", "disk full under load", 20, disk_full.run, open_harness=open_on_tmpfs),
    Scenario("clock-leap", "the system's clock leaps and returns", 150, clock_leap.run),
    Scenario(
        "log-growth",
        "write-ahead log during renewals and the purge of a domain's mailboxes",
        30_000,
        log_growth.run,
        engines=(Engine.SQLITE,),
    ),
    Scenario("WAL-deleted", "write-ahead log deleted under load", 20, log_deleted.run, engines=(Engine.SQLITE,)),
    Scenario("damaged-file", "header overwritten under load", 20, file_damaged.run, engines=(Engine.SQLITE,)),
    Scenario("second-service", "second service on the same file", 20, second_service.run, engines=(Engine.SQLITE,)),
    Scenario("restarted", "SIGTERM and restart under load", 50, restarted.run),
    Scenario(
        "restored-dump",
        "dump restored into a fresh cluster, without the tenants' role",
        10,
        restored_dump.run,
        engines=(Engine.POSTGRESQL,),
    ),
)
