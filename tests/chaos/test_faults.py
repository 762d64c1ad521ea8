"""A small sample of every fault, with real processes: what a full `make chaos` makes hundreds of.

How fast things are again is left to the bench, which has the machine to itself.
"""

import pytest

from bench.chaos.arena import open_arena
from bench.chaos.catalogue import SCENARIOS, Scenario
from bench.chaos.scenarios import disk_full
from bench.chaos.space import may_mount
from bench.engine import Engine

SAMPLES = {
    "service-killed": 1,
    "postgres-killed": 1,
    "answer-lost": 4,
    "same-address": 2,
    "cancelled": 20,
    "disk-full": 1,
    "restarted": 1,
}

# Where no tmpfs may be mounted, SQLite's disk fills up in the test below alone; nothing there can fill PostgreSQL's.
TRIED = [
    pytest.param(scenario, engine, id=f"{scenario.name}-{engine}")
    for scenario in SCENARIOS
    for engine in scenario.engines
    if scenario.name != "disk-full" or may_mount()
]


@pytest.mark.parametrize(("scenario", "engine"), TRIED)
async def test_nothing_acknowledged_is_lost_or_half_done(scenario: Scenario, engine: Engine) -> None:
    async with scenario.opens(engine) as arena:
        outcome = await scenario.run(arena, SAMPLES[scenario.name])
    assert outcome.broken == []
    assert outcome.count >= SAMPLES[scenario.name]


async def test_file_that_may_not_grow_is_as_a_full_disk() -> None:
    async with open_arena(Engine.SQLITE) as arena:
        outcome = await disk_full.run(arena, 1)
    assert (outcome.count, outcome.broken) == (1, [])
