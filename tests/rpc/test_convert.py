"""Messages of mailboxes equal messages that are built field by field."""

from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from postroom.v1alpha1 import mailbox_pb2 as pb
from postroomd.domain.model import Mailbox
from postroomd.rpc import convert
from tests.support.strategies import MAILBOXES, view_of


def built_by_field(mailbox: Mailbox) -> pb.Mailbox:
    message = pb.Mailbox(etag=f"{mailbox.revision:x}")
    for field in pb.Mailbox.DESCRIPTOR.fields:
        value: Any = getattr(mailbox, field.name, None)
        if isinstance(value, datetime):
            stamp: Timestamp = getattr(message, field.name)
            stamp.SetInParent()
            stamp.FromDatetime(value)
        elif field.enum_type and value is not None:  # a subscription has no period before its first payment
            setattr(message, field.name, field.enum_type.values_by_name[value.name].number)
        elif value is not None:
            setattr(message, field.name, value)
    return message


@given(st.lists(MAILBOXES, max_size=3))
def test_every_conversion_of_a_mailbox_sets_every_field(mailboxes: list[Mailbox]) -> None:
    expected = [built_by_field(mailbox) for mailbox in mailboxes]
    assert [convert.mailbox_message(mailbox) for mailbox in mailboxes] == expected
    assert [convert.mailbox_view_message(view_of(mailbox)) for mailbox in mailboxes] == expected
    page = convert.mailbox_view_messages([view_of(mailbox) for mailbox in mailboxes])
    assert list(pb.ListMailboxesResponse(mailboxes=page).mailboxes) == expected
