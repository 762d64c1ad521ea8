"""Which responses have long lists: they are encoded outside the event loop."""

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from postroomd.long_work import MAX_INLINE_ITEMS


def list_fields(message: Descriptor) -> tuple[str, ...]:
    """Return the names of the fields with several messages."""
    return tuple(
        field.name for field in message.fields if field.is_repeated and field.type == FieldDescriptor.TYPE_MESSAGE
    )


def is_long(message: Message, fields: tuple[str, ...]) -> bool:
    """Whether one of these fields has more items than are encoded inside the event loop."""
    return any(len(getattr(message, field)) > MAX_INLINE_ITEMS for field in fields)
