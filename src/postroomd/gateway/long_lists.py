"""Responses with long lists, whose JSON is encoded part by part.

A list of 1,000 mailboxes takes about 20 ms. A client that asks for many at once would otherwise keep the event loop
from the requests of others. A thread would keep the interpreter lock from it, for up to 5 ms at each of its turns.
"""

import asyncio
from collections.abc import Mapping

import orjson
from google.protobuf.message import Message

from postroomd.gateway.json_codec import Encode, to_bytes
from postroomd.gateway.transcode import Transcoder

MAX_WHOLE_ITEMS = 100
PART_ITEMS = 25  # that are encoded at once: about 0.5 ms


class LongLists:
    """Encodes responses with long lists one at a time, so that each turn of the event loop has a part of one only."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def encode(self, transcoder: Transcoder, response: Message) -> bytes:
        """Return what `transcoder.encode` would, once the responses before it are encoded. Takes the lists away."""
        async with self._turn:
            lists = {name: await _encode_list(encode, response, name) for name, encode in transcoder.lists.items()}
            return transcoder.encode_with(response, lists)


def is_long(response: Message, lists: Mapping[str, Encode]) -> bool:
    """Whether one of these fields has more items than are encoded at once."""
    return any(len(getattr(response, name)) > MAX_WHOLE_ITEMS for name in lists)


async def _encode_list(encode: Encode, response: Message, name: str) -> orjson.Fragment:
    items, parts = getattr(response, name), []
    for start in range(0, len(items), PART_ITEMS):
        parts.append(to_bytes([encode(item) for item in items[start : start + PART_ITEMS]])[1:-1])
        await asyncio.sleep(0)
    response.ClearField(name)
    return orjson.Fragment(b"[" + b",".join(parts) + b"]")
