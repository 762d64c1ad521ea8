"""Lists of any length are complete; long ones are encoded outside the event loop, one at a time."""

import asyncio
import threading
from uuid import UUID

import pytest
from google.protobuf.message import Message

from postroom.v1alpha1 import mailbox_pb2
from postroomd.gateway.long_lists import MAX_INLINE_ITEMS, LongLists
from tests.gateway.client import Client


async def test_a_list_of_any_length_is_complete(call: Client) -> None:
    for length in (MAX_INLINE_ITEMS, MAX_INLINE_ITEMS + 1):
        ids = [str(UUID(int=number)) for number in range(length)]
        call.stub.respond_with(
            "ListMailboxes",
            mailbox_pb2.ListMailboxesResponse(mailboxes=[mailbox_pb2.Mailbox(id=each) for each in ids]),
        )
        response = await call("GET", "/mailboxes")
        assert [mailbox["id"] for mailbox in response.json["mailboxes"]] == ids


async def test_long_lists_are_encoded_one_at_a_time_outside_the_event_loop() -> None:
    lists, lock = LongLists(), threading.Lock()

    def encode(message: Message) -> bytes:
        assert lock.acquire(blocking=False)  # no other is encoded
        assert threading.current_thread() is not threading.main_thread()
        lock.release()
        return message.SerializeToString()

    messages = [mailbox_pb2.Mailbox(id=str(number)) for number in range(20)]
    encoded = await asyncio.gather(*(lists.encode(encode, message) for message in messages))
    assert encoded == [message.SerializeToString() for message in messages]


async def test_a_failure_is_raised_and_keeps_no_turn() -> None:
    def fail(_: Message) -> bytes:
        raise ValueError("invalid literal")

    lists, message = LongLists(), mailbox_pb2.Mailbox(id="1")
    with pytest.raises(ValueError, match="invalid literal"):
        await lists.encode(fail, message)
    assert await lists.encode(lambda each: each.SerializeToString(), message) == message.SerializeToString()
