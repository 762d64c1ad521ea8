"""A small number of each fault, with real processes; `make chaos` injects hundreds.

Performance limits are not checked here, because other tests run at the same time.
"""

import pytest

from bench.chaos.catalogue import SCENARIOS, Scenario
from bench.chaos.disk import can_mount
from bench.chaos.harness import open_harness
from bench.chaos.scenarios import disk_full
from bench.engine import Engine

COUNTS = {
    "service-killed": 1,
    "postgres-killed": 1,
    "answer-lost": 4,
    "same-address": 2,
    "cancelled": 20,
    "disk-full": 1,
    "clock-leap": 3,
    "log-growth": 200,
    "WAL-deleted": 1,
    "damaged-file": 1,
    "second-service": 1,
    "restarted": 1,
    "restored-dump": 1,
}

# Without the privilege to mount a tmpfs, only SQLite's full disk is tested, by the file size limit below.
CASES = [
    pytest.param(scenario, engine, id=f"{scenario.name}-{engine}")
    for scenario in SCENARIOS
    for engine in scenario.engines
    if scenario.name != "disk-full" or can_mount()
]


@pytest.mark.parametrize(("scenario", "engine"), CASES)
async def test_no_acknowledged_write_is_lost_and_none_stored_in_part(scenario: Scenario, engine: Engine) -> None:
    async with scenario.open_harness(engine) as harness:
        outcome = await scenario.run(harness, COUNTS[scenario.name])
    assert outcome.violations == []
    assert outcome.count >= COUNTS[scenario.name]


async def test_file_size_limit_has_the_effect_of_a_full_disk() -> None:
    async with open_harness(Engine.SQLITE) as harness:
        outcome = await disk_full.run(harness, 1)
    assert (outcome.count, outcome.violations) == (1, [])
