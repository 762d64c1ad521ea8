"""Lists of any length are complete; long ones are encoded in parts, one response at a time."""

import asyncio
from uuid import UUID

import pytest

from postroom.v1alpha1 import mailbox_pb2
from postroomd.gateway.long_lists import MAX_WHOLE_ITEMS, PART_ITEMS, LongLists
from postroomd.gateway.routes import read_routes
from postroomd.gateway.transcode import Transcoder
from tests.gateway.client import Client
from tests.gateway.contract import SERVICE


@pytest.fixture
def transcoder() -> Transcoder:
    (route,) = (route for route in read_routes([SERVICE]) if route.rpc.endswith("/ListMailboxes"))
    return Transcoder(route)


def response_of(length: int) -> mailbox_pb2.ListMailboxesResponse:
    mailboxes = [mailbox_pb2.Mailbox(id=str(UUID(int=number)), email="é@ex.example") for number in range(length)]
    return mailbox_pb2.ListMailboxesResponse(mailboxes=mailboxes, total_count=5_000, next_page_token="a")


@pytest.mark.parametrize("length", [MAX_WHOLE_ITEMS, MAX_WHOLE_ITEMS + 1])
async def test_a_list_of_any_length_is_complete(call: Client, length: int) -> None:
    call.stub.respond_with("ListMailboxes", response_of(length))
    response = await call("GET", "/mailboxes")
    assert [mailbox["id"] for mailbox in response.json["mailboxes"]] == [str(UUID(int=n)) for n in range(length)]


@pytest.mark.parametrize("length", [0, 1, PART_ITEMS, PART_ITEMS + 1, 1_000])
async def test_the_parts_are_together_the_whole(transcoder: Transcoder, length: int) -> None:
    assert await LongLists().encode(transcoder, response_of(length)) == transcoder.encode(response_of(length))


async def test_one_response_at_a_time_is_encoded_and_others_have_turns(transcoder: Transcoder) -> None:
    lists, order, length = LongLists(), list[int](), 10 * PART_ITEMS
    turns = 0

    async def encode(number: int) -> None:
        await lists.encode(transcoder, response_of(length))
        order.append(number)

    async def take_turns() -> None:
        nonlocal turns
        while len(order) < 3:
            turns += 1
            await asyncio.sleep(0)

    await asyncio.gather(*map(encode, range(3)), take_turns())
    assert order == [0, 1, 2]
    assert turns >= 3 * length // PART_ITEMS


async def test_a_failure_is_raised_and_keeps_no_turn(transcoder: Transcoder) -> None:
    lists, faulty = LongLists(), response_of(PART_ITEMS)
    faulty.mailboxes[0].created_at.seconds = 10**12  # later than any date
    with pytest.raises(OverflowError):
        await lists.encode(transcoder, faulty)
    async with asyncio.timeout(10):
        assert await lists.encode(transcoder, response_of(1)) == transcoder.encode(response_of(1))
