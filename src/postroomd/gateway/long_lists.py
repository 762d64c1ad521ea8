"""Long lists of responses, which are encoded outside the event loop.

A list of 1,000 mailboxes takes about 20 ms. A client that asks for many at once would otherwise keep the event loop
from the requests of others.
"""

import asyncio
from collections.abc import Callable

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

MAX_INLINE_ITEMS = 100


class LongLists:
    """Encodes long lists in a thread, one at a time: more would only take turns with the event loop's own thread."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def encode(self, encode: Callable[[Message], bytes], message: Message) -> bytes:
        """Return the encoded message, once those before it are encoded. Raises what `encode` raises."""
        async with self._turn:
            return await asyncio.to_thread(encode, message)


def list_fields(message: Descriptor) -> tuple[str, ...]:
    """Return the names of the fields with several messages."""
    return tuple(
        field.name for field in message.fields if field.is_repeated and field.type == FieldDescriptor.TYPE_MESSAGE
    )


def is_long(message: Message, fields: tuple[str, ...]) -> bool:
    """Whether one of these fields has more items than are encoded inside the event loop."""
    return any(len(getattr(message, field)) > MAX_INLINE_ITEMS for field in fields)
