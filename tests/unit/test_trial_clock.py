"""Who may move the trial clock on: callers on its machine, and no page that a browser there shows."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from postroomd.clock import TrialClock
from postroomd.runtime.trial_clock import serving


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """The HOST:PORT of a clock whose worker has always done all."""
    clock, stop = TrialClock(), asyncio.Event()

    async def work() -> None:
        while not stop.is_set():
            clock.settle(clock.now())
            await asyncio.sleep(0.001)

    working = asyncio.create_task(work())
    async with serving(clock, "127.0.0.1:0") as address:
        yield address
    stop.set()
    await working


async def ask(address: str, headers: dict[str, str]) -> int:
    """The status that an advance by a second, with these headers, is answered with."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{address}/advance", data=b'{"seconds": 1}', headers=headers) as answer,
    ):
        assert ("now" if answer.status == 200 else "message") in await answer.json()
        return answer.status


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
async def test_callers_on_this_machine_move_time(address: str, headers: dict[str, str]) -> None:
    assert await ask(address, headers) == 200


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
async def test_no_web_page_moves_time(address: str, headers: dict[str, str]) -> None:
    assert await ask(address, headers) == 403
