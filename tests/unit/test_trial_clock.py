"""The HTTP server of the trial clock: how an advance is parsed, and which callers are accepted."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from postroomd.clock import TrialClock
from postroomd.runtime.trial_clock import MAX_TIME, parse_advance, serving_clock

NOW = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)


# --- Parsing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "expected"),
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
        ({"to": "3000-01-01T00:00:00Z"}, MAX_TIME),
    ],
    ids=str,
)
def test_an_advance_has_three_forms(sent: object, expected: datetime) -> None:
    assert NOW + parse_advance(json.dumps(sent).encode(), NOW) == expected


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
def test_an_invalid_body_is_rejected_with_the_three_forms(sent: bytes) -> None:
    with pytest.raises(ValueError, match=r"^expected one of"):
        parse_advance(sent, NOW)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("seconds", ["1", None, True, float("nan"), float("inf"), 1e300]),
        ("duration", ["", "P", "PT", "P1", "1D", "P1.5D", "PT1H1D", "P-1D", 1, "P9999Y", " P1D"]),
        ("to", ["", "tomorrow", "2026-03-01T00:00:00", 1, "9999-12-31T23:59:59-23:59"]),
    ],
)
def test_an_invalid_value_is_rejected_with_its_name(name: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^{name}: expected "):
            parse_advance(json.dumps({name: value}).encode(), NOW)


@pytest.mark.parametrize("sent", [{"seconds": -1}, {"to": "2026-01-31T12:29:59Z"}, {"to": "3000-01-01T00:00:01Z"}])
def test_time_goes_neither_back_nor_too_far(sent: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected a time from 2026-01-31T12:30:00Z to 3000-01-01T00:00:00Z"):
        parse_advance(json.dumps(sent).encode(), NOW)


# --- Callers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """The HOST:PORT of a clock whose worker always catches up at once."""
    clock, stop = TrialClock(), asyncio.Event()

    async def work() -> None:
        while not stop.is_set():
            clock.mark_caught_up(clock.now())
            await asyncio.sleep(0.001)

    working = asyncio.create_task(work())
    async with serving_clock(clock, "127.0.0.1:0") as address:
        yield address
    stop.set()
    await working


async def advance(address: str, headers: dict[str, str]) -> int:
    """Advance the clock by a second with these headers; returns the HTTP status."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{address}/advance", data=b'{"seconds": 1}', headers=headers) as response,
    ):
        assert ("now" if response.status == 200 else "message") in await response.json()
        return response.status


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost"},
        {"Host": "127.0.0.1"},
        {"Host": "[::1]:8090"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Origin": "http://localhost:3000"},
    ],
    ids=str,
)
async def test_callers_on_this_machine_are_accepted(address: str, headers: dict[str, str]) -> None:
    assert await advance(address, headers) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example:8090"},
        {"Host": "127.0.0.1.example"},
        {"Origin": "https://example.org"},
        {"Origin": "http://localhost.example.org:8090", "Content-Type": "text/plain"},
        {"Origin": "null"},
    ],
    ids=str,
)
async def test_web_pages_of_other_hosts_are_rejected(address: str, headers: dict[str, str]) -> None:
    assert await advance(address, headers) == 403
