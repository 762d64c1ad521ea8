"""Sends the bytes of a case, and reads what comes back until the server has finished with it."""

import asyncio
import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import hpack

from bench.attack.attackers import http2

FINISH_SECONDS = 60.0
"""The server must have finished by then; it takes about a second for a request that never ends."""
QUIET_SECONDS = 0.2
"""After a case of raw frames, whose end nobody can tell."""


_VERSION = re.compile(r"HTTP/[0-2]\.[0-9]")  # aiohttp answers in the version of the request


class Unfinished(AssertionError):
    """The server neither answered nor closed the connection."""


@dataclass(frozen=True)
class HttpResponse:
    """One HTTP/1.1 response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotHttp(AssertionError):
    """The bytes are not a sequence of complete HTTP/1.1 responses."""


def parse_responses(data: bytes) -> list[HttpResponse]:
    """Return the responses of a connection. Raises NotHttp."""
    responses = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest = status_line.partition(" ")
        if not separator or not _VERSION.fullmatch(version) or not rest[:3].isdecimal():
            raise NotHttp(f"not the head of a response: {head[:200]!r}")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        status, length = int(rest[:3]), int(headers.get("content-length", "0"))
        if status < 200 or status in (204, 304) or data[:5] == b"HTTP/":  # the last: a response to HEAD
            length = 0
        elif len(data) < length:
            if data:
                raise NotHttp(f"{len(data)} of {length} bytes of a body")
            length = 0  # the response to a HEAD, the last of the connection
        body, data = data[:length], data[length:]
        if status >= 200:
            responses.append(HttpResponse(status, headers, body))
    return responses


async def exchange_http(host: str, port: int, data: bytes) -> bytes:
    """Send bytes, and return what the server sent until it closed. Raises Unfinished."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        async with asyncio.timeout(FINISH_SECONDS):
            writing = asyncio.create_task(_write(writer, data))
            received = await _read_all(reader)
            writing.cancel()
            return received
    except TimeoutError:
        raise Unfinished("the gateway did not close the connection") from None
    finally:
        writer.transport.abort()


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        await writer.drain()


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    received = bytearray()
    with contextlib.suppress(ConnectionError):  # closed while part of the case was unread
        while chunk := await reader.read(65_536):
            received += chunk
    return bytes(received)


@dataclass
class Http2Stream:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)  # trailers included
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None


class Http2Answers:
    """Parses the frames that a server sends."""

    def __init__(self) -> None:
        self.streams: dict[int, Http2Stream] = {}
        self.goaway: bytes | None = None
        self.ping_acknowledged = False
        self._decoder = hpack.Decoder()
        self._decoder.max_allowed_table_size = 65_536
        self._block = bytearray()
        self._unread = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes. Returns the frames to send in answer."""
        self._unread += data
        answers: list[bytes] = []
        while len(self._unread) >= 9:
            length = int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < 9 + length:
                break
            kind, flags = self._unread[3], self._unread[4]
            stream = int.from_bytes(self._unread[5:9], "big") & 0x7FFFFFFF
            payload = bytes(self._unread[9 : 9 + length])
            del self._unread[: 9 + length]
            answers += self._frame(kind, flags, stream, payload)
        return answers

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> list[bytes]:
        if kind == http2.SETTINGS and not flags & http2.ACK:
            return [http2.frame(http2.SETTINGS, http2.ACK, 0)]
        if kind == http2.PING:
            if flags & http2.ACK:
                self.ping_acknowledged = True
                return []
            return [http2.frame(http2.PING, http2.ACK, 0, payload)]
        if kind == http2.GOAWAY:
            self.goaway = payload
        elif number:
            stream = self.streams.setdefault(number, Http2Stream())
            if kind == http2.DATA:
                stream.body += payload
            elif kind in (http2.HEADERS, http2.CONTINUATION):
                self._block += payload
                if flags & http2.END_HEADERS:
                    for name, value in self._decoder.decode(bytes(self._block), raw=True):
                        stream.headers[bytes(name).decode()] = bytes(value).decode("latin-1")
                    self._block.clear()
            elif kind == http2.RST_STREAM:
                stream.reset = int.from_bytes(payload, "big")
                stream.ended = True
            if flags & http2.END_STREAM and kind in (http2.DATA, http2.HEADERS):
                stream.ended = True
        return []


async def exchange_http2(host: str, port: int, data: bytes, awaited: Sequence[int] | None) -> Http2Answers:
    """Send a connection's bytes and a PING; return the answers once the awaited streams have ended.

    Without `awaited` streams, return when the server is silent. Raises Unfinished.
    """
    reader, writer = await asyncio.open_connection(host, port)
    answers = Http2Answers()

    def finished() -> bool:
        if awaited is None or not answers.ping_acknowledged:
            return False
        return all(number in answers.streams and answers.streams[number].ended for number in awaited)

    writing = asyncio.create_task(_write(writer, data + http2.frame(http2.PING, 0, 0, b"the end.")))
    try:
        async with asyncio.timeout(QUIET_SECONDS if awaited is None else FINISH_SECONDS):
            while not finished() and (chunk := await reader.read(65_536)):
                for frame in answers.feed(chunk):
                    writer.write(frame)
    except ConnectionError:
        pass
    except TimeoutError:
        if awaited is not None:
            raise Unfinished(f"no end of the streams {awaited}") from None
    finally:
        writing.cancel()
        writer.transport.abort()
    return answers
