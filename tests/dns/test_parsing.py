"""Turns and the budget of parsing, whose cost hostile servers choose."""

import asyncio
import struct
from collections.abc import Callable

import dns.message
import pytest
from dns.rdatatype import RdataType

from postroomd.dns.parsing import ResponseParser, Turns, WorkExhausted
from postroomd.dns.wire import MAX_TOTAL_WORK, MAX_WORK, Work, bounded

QUERY = dns.message.make_query("example.com", "MX")


def costly(question: str = "example.com") -> bytes:
    """Return a response of 150 MX records whose owners and hosts are names of nine labels."""
    base = dns.message.make_response(dns.message.make_query(question, "MX", id=QUERY.id)).to_wire()
    pointer = struct.pack("!H", 0xC000 | len(base))
    record = struct.pack("!HHIHH", RdataType.MX, 1, 60, 4, 1) + pointer
    records = b"\1a" * 9 + b"\0" + record + (pointer + record) * 149
    return base[:6] + struct.pack("!H", 150) + base[8:] + records


class Turn:
    """Turns of organizations, each of which takes a number of seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = Turns(lambda: self.now)
        self.served: list[str] = []
        self.third = asyncio.Event()

    async def take(self, organization_id: str, seconds: float) -> None:
        await self.turns.take(organization_id)
        self.served.append(organization_id)
        self.now += seconds
        if len(self.served) == 3:
            self.third.set()


async def test_the_next_turn_goes_to_the_organization_that_has_used_the_least_time() -> None:
    turn = Turn()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(turn.take("costly", 0.01))
        for _ in range(4):
            tasks.create_task(turn.take("cheap", 0.001))
    assert turn.served == ["costly", *["cheap"] * 4, "costly", "costly"]


async def test_an_organization_that_comes_later_has_no_advantage_of_it() -> None:
    turn = Turn()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(6):
            tasks.create_task(turn.take("first", 0.01))
        await turn.third.wait()
        for _ in range(3):
            tasks.create_task(turn.take("later", 0.01))
    assert turn.served[3:7].count("later") == 2


async def test_the_loop_is_left_to_others_for_as_long_as_a_turn_took(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, rests = asyncio.get_running_loop(), list[float]()
    call_later = loop.call_later

    def record_rest(delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        rests.append(delay)
        return call_later(0, callback)

    monkeypatch.setattr(loop, "call_later", record_rest)
    turn = Turn()
    async with asyncio.TaskGroup() as tasks:
        for seconds in (0.25, 0.5):
            tasks.create_task(turn.take("a", seconds))
    assert rests == [0.25, 0.5]


async def test_a_canceled_turn_delays_nobody() -> None:
    turns = Turns()
    canceled = [asyncio.create_task(turns.take("a")) for _ in range(3)]
    await asyncio.sleep(0)
    for task in canceled:
        task.cancel()
    await asyncio.wait(canceled)
    await turns.take("b")
    await turns.take("a")


async def test_a_response_is_parsed() -> None:
    response = dns.message.make_response(QUERY)
    assert await ResponseParser(Turns(), "a").parse(QUERY, response.to_wire()) == response


async def test_the_work_of_a_validation_is_bounded_whether_or_not_packets_respond_to_the_query() -> None:
    bounded(costly(), total := Work())
    for wire in (costly(), costly("example.net"), costly()[:-1]):
        parser = ResponseParser(Turns(), "a")
        for _ in range(MAX_TOTAL_WORK // total.spent + 1):
            parser.check()
            await parser.parse(QUERY, wire)
        with pytest.raises(WorkExhausted):
            parser.check()
        with pytest.raises(WorkExhausted):
            await parser.parse(QUERY, wire)


async def test_each_validation_has_a_budget_of_its_own() -> None:
    turns = Turns()
    for _ in range(2 * MAX_TOTAL_WORK // MAX_WORK):
        assert await ResponseParser(turns, "a").parse(QUERY, costly()) is not None
