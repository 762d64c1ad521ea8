"""Lists of any length are complete, however they are encoded."""

from uuid import UUID

from postroom.v1alpha1 import mailbox_pb2
from postroomd.long_work import MAX_INLINE_ITEMS
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
