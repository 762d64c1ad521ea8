"""Turns and the budget of parsing, whose cost hostile servers choose."""

import asyncio
import struct

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


async def test_organizations_take_turns_one_in_an_iteration_of_the_loop() -> None:
    turns, served = Turns(), list[str]()
    iterations = asyncio.create_task(count_iterations(iteration := [0]))
    seen = set[int]()

    async def work(organization: str) -> None:
        await turns.take(organization)
        served.append(organization)
        assert iteration[0] not in seen
        seen.add(iteration[0])

    async with asyncio.TaskGroup() as tasks:
        for organization in ["a"] * 5 + ["b"] * 2:
            tasks.create_task(work(organization))
    iterations.cancel()
    assert served == ["a", "b", "a", "b", "a", "a", "a"]


async def count_iterations(iteration: list[int]) -> None:
    while True:
        iteration[0] += 1
        await asyncio.sleep(0)


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
