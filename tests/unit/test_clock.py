"""The trial clock: one time for several processes, and what moves it on."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from postroomd.clock import Clock, TrialClock
from postroomd.net import is_loopback
from postroomd.runtime.trial_clock import LATEST, asked

DAY = timedelta(days=1)
NOW = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)


def test_a_trial_clock_begins_with_the_systems_time() -> None:
    before = Clock().now()
    assert before <= TrialClock().now() <= Clock().now()


async def test_an_advance_ends_once_all_is_done_that_was_due_then() -> None:
    clock = TrialClock()
    clock.settle(clock.now())
    before = clock.now()
    advancing = asyncio.create_task(clock.advance(DAY))
    await asyncio.sleep(0)
    assert clock.now() - before >= DAY
    clock.settle(before + DAY / 2)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(advancing), 0.05)
    clock.settle(clock.now())
    assert await advancing - before >= DAY


async def test_an_advance_wakes_a_worker_from_a_long_rest() -> None:
    clock, stop = TrialClock(), asyncio.Event()

    async def work() -> None:
        stopping = asyncio.create_task(stop.wait())
        while not stop.is_set():
            clock.settle(clock.now())
            await clock.rest({stopping}, 3_600)

    working = asyncio.create_task(work())
    begun = clock.now()
    for _ in range(12):
        await clock.advance(30 * DAY)
    assert clock.now() - begun >= 360 * DAY
    stop.set()
    await working


@pytest.mark.parametrize("clock", [Clock(), TrialClock()])
async def test_a_rest_ends_with_its_time_and_with_an_event(clock: Clock) -> None:
    event = asyncio.get_running_loop().create_future()
    await clock.rest({event}, 0.01)
    resting = asyncio.create_task(clock.rest({event}, 3_600))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(resting), 0.05)
    event.set_result(None)
    await resting


@pytest.fixture
def forked_clock() -> Iterator[TrialClock]:
    """A clock that another process works by, for a while."""
    clock = TrialClock()
    child = os.fork()
    if child == 0:
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            clock.settle(clock.now())
            time.sleep(0.001)
        os._exit(0)
    yield clock
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


async def test_processes_forked_from_one_share_its_clock(forked_clock: TrialClock) -> None:
    async with asyncio.timeout(9):
        await forked_clock.advance(2 * DAY)


@pytest.mark.parametrize(
    ("sent", "until"),
    [
        ({"seconds": 90}, datetime(2026, 1, 31, 12, 31, 30, tzinfo=UTC)),
        ({"seconds": 0.5}, NOW + timedelta(milliseconds=500)),
        ({"seconds": 0}, NOW),
        ({"duration": "P1M"}, datetime(2026, 2, 28, 12, 30, tzinfo=UTC)),
        ({"duration": "P1Y"}, datetime(2027, 1, 31, 12, 30, tzinfo=UTC)),
        ({"duration": "P1Y1M2W3DT4H5M6.5S"}, datetime(2027, 3, 17, 16, 35, 6, 500_000, tzinfo=UTC)),
        ({"duration": "PT36H"}, datetime(2026, 2, 2, 0, 30, tzinfo=UTC)),
        ({"to": "2026-03-01T00:00:00Z"}, datetime(2026, 3, 1, tzinfo=UTC)),
        ({"to": "2026-03-01T00:00:00+02:00"}, datetime(2026, 2, 28, 22, tzinfo=UTC)),
        ({"to": "3000-01-01T00:00:00Z"}, LATEST),
    ],
    ids=str,
)
def test_how_far_to_go_can_be_said_in_three_ways(sent: object, until: datetime) -> None:
    assert NOW + asked(json.dumps(sent).encode(), NOW) == until


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b'{"seconds": 1, "duration": "P1D"}',
        b'{"minutes": 1}',
        b"\xff",
        b'{"seconds": 1',
        b"[" * 100_000,
        b'{"seconds": ' + b"9" * 5_000 + b"}",
    ],
    ids=lambda sent: sent[:40],
)
def test_what_says_nothing_of_the_kind_is_told_what_would(sent: bytes) -> None:
    with pytest.raises(ValueError, match="is expected"):
        asked(sent, NOW)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("seconds", ["1", None, True, float("nan"), float("inf"), 1e300]),
        ("duration", ["", "P", "PT", "P1", "1D", "P1.5D", "PT1H1D", "P-1D", 1, "P9999Y", " P1D"]),
        ("to", ["", "tomorrow", "2026-03-01T00:00:00", 1, "9999-12-31T23:59:59-23:59"]),
    ],
)
def test_what_cannot_be_read_is_named(name: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^{name}: "):
            asked(json.dumps({name: value}).encode(), NOW)


@pytest.mark.parametrize("sent", [{"seconds": -1}, {"to": "2026-01-31T12:29:59Z"}, {"to": "3000-01-01T00:00:01Z"}])
def test_time_goes_on_and_not_too_far(sent: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="the time goes on from 2026-01-31T12:30:00Z, as far as 3000-01-01T00:00:00Z"):
        asked(json.dumps(sent).encode(), NOW)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.8.9.10:80", "[::1]:80", "localhost:80"])
def test_loopback_addresses(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "192.168.0.1:80", "example.org:80", "127.0.0.1", "x"])
def test_others(address: str) -> None:
    assert not is_loopback(address)
