"""Every scenario: its fault, on which engines, and how many of it make a full run."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from bench.chaos.arena import Arena, open_arena
from bench.chaos.outcome import Outcome
from bench.chaos.scenarios import (
    answer_lost,
    cancelled,
    disk_full,
    postgres_killed,
    restarted,
    same_address,
    service_killed,
)
from bench.chaos.space import open_on_tmpfs
from bench.engine import Engine

BOTH = (Engine.SQLITE, Engine.POSTGRESQL)
QUICK = 50  # a quick run makes one fault where a full one makes so many


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of fault."""

    name: str
    fault: str
    full: int
    run: Callable[[Arena, int], Awaitable[Outcome]]
    engines: tuple[Engine, ...] = BOTH
    opens: Callable[[Engine], AbstractAsyncContextManager[Arena]] = open_arena

    @property
    def quick(self) -> int:
        """How many make a quick run."""
        return max(1, self.full // QUICK)


SCENARIOS = (
    Scenario("service-killed", "kill -9 of the service under load", 200, service_killed.run),
    Scenario(
        "postgres-killed", "kill -9 of PostgreSQL under load", 50, postgres_killed.run, engines=(Engine.POSTGRESQL,)
    ),
    Scenario("answer-lost", "commit done, answer lost, call repeated under its key", 500, answer_lost.run),
    Scenario("same-address", "50 clients create the same address", 2_000, same_address.run),
    Scenario("cancelled", "client cancels at a random instant", 5_000, cancelled.run),
    Scenario("disk-full", "disk full", 20, disk_full.run, opens=open_on_tmpfs),
    Scenario("restarted", "SIGTERM rolling restart under load", 50, restarted.run),
)
