"""`postroom clock`: the state of the clocks, and the acceptance of one."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from postroomd.cli.app import run
from postroomd.cli.clock import THIS_MACHINE
from postroomd.domain.clock_leaps import WorkerClock
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.clocks import ClockRecords
from tests.support.databases import NewDatabase

DAY = timedelta(days=1)


async def beat(url: str, *heartbeats: WorkerClock) -> ClockRecords:
    """Store heartbeats, and return all records."""
    repository = await open_repository(url)
    for each in heartbeats:
        await repository.clocks.beat(each, each.trusted_at - DAY)
    records = await repository.clocks.read()
    await repository.close()
    return records


def status(url: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """The exit code of `clock status`, and the state of each clock."""
    capsys.readouterr()  # what the test itself has logged
    code = run(["clock", "status", "--output=json", f"--database-url={url}"])
    return code, {row["clock"]: row["state"] for row in json.loads(capsys.readouterr().out)}


def test_a_leap_is_shown_until_it_is_accepted(new_database: NewDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    url, now = new_database(), datetime.now(UTC)
    assert status(url, capsys) == (0, {THIS_MACHINE: "trusted"})
    asyncio.run(beat(url, WorkerClock("right", now, now - DAY), WorkerClock("wrong", now, now - DAY, now + 40 * DAY)))
    assert status(url, capsys) == (1, {THIS_MACHINE: "trusted", "right": "trusted", "wrong": "leapt"})
    assert run(["clock", "accept", f"--database-url={url}"]) == 0
    printed = capsys.readouterr().out
    assert status(url, capsys) == (0, {THIS_MACHINE: "trusted", "right": "trusted"})
    acceptance = asyncio.run(beat(url)).acceptance
    assert acceptance is not None
    assert printed.startswith(f"Accepted: the time is {acceptance.accepted_at:%Y-%m-%d %H:%M:%S}Z")
    assert timedelta(0) <= acceptance.accepted_at - now < DAY


def test_a_clock_behind_the_workers_is_shown(new_database: NewDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    url, later = new_database(), datetime.now(UTC) + DAY
    asyncio.run(beat(url, WorkerClock("ahead", later, later - DAY)))
    assert status(url, capsys) == (1, {THIS_MACHINE: "leapt", "ahead": "trusted"})
