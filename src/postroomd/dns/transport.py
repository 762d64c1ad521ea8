"""One DNS query to one server over UDP or TCP.

dnspython builds and parses the messages, asyncio does the I/O. `dns.asyncquery` parses any response in full, which may
block the event loop for seconds: `parsing` bounds the work, and gives organizations turns.
"""

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable

import dns.flags
import dns.message

from postroomd.dns.config import Endpoint
from postroomd.dns.wire import HEADER, RESPONSE, TooMuchWork

EDNS_PAYLOAD = 1_232  # octets that pass without fragmentation (RFC 9715, section 3.1)
MAX_STRAY_PACKETS = 20

Parse = Callable[[dns.message.Message, bytes], Awaitable[dns.message.Message | None]]
"""Query and received octets -> the response, or None if they are not one. Raises TooMuchWork."""


class QueryFailed(Exception):
    """A server returned no usable response. The text is a clause whose subject is the server."""


async def query_udp(
    query: dns.message.Message,
    server: Endpoint,
    timeout_seconds: float,
    may_retransmit: Callable[[], bool],
    parse: Parse,
) -> dns.message.Message:
    """Return the response to a query; header and question only if it is truncated. Raises QueryFailed.

    The query is retransmitted once, after a third of `timeout_seconds`, if `may_retransmit` returns true then.
    """
    loop = asyncio.get_running_loop()
    wire = query.to_wire()
    exchange = _UdpExchange(query.id)
    try:
        async with asyncio.timeout(timeout_seconds):
            # A connected socket: the kernel drops packets from other sources and reports a closed port.
            transport, _ = await loop.create_datagram_endpoint(
                lambda: exchange, remote_addr=(server.address, server.port)
            )
            try:
                transport.sendto(wire)
                retransmission = loop.call_later(
                    timeout_seconds / 3, lambda: transport.sendto(wire) if may_retransmit() else None
                )
                try:
                    return await _first_response(query, exchange, parse)
                finally:
                    retransmission.cancel()
            finally:
                transport.close()
    except TimeoutError:
        raise QueryFailed(_timed_out(timeout_seconds)) from None
    except OSError as error:
        raise QueryFailed(_unreachable(error)) from error
    except TooMuchWork as error:
        raise QueryFailed(str(error)) from error


async def query_tcp(
    query: dns.message.Message, server: Endpoint, timeout_seconds: float, parse: Parse
) -> dns.message.Message:
    """Return the complete response to a query (RFC 7766), within `timeout_seconds`. Raises QueryFailed."""
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection(server.address, server.port)
            try:
                writer.write(query.to_wire(prepend_length=True))
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                wire = await reader.readexactly(length)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise QueryFailed(f"{_timed_out(timeout_seconds)} over TCP") from None
    except EOFError as error:
        raise QueryFailed("closed the TCP connection without a response") from error
    except OSError as error:
        raise QueryFailed(f"{_unreachable(error)} over TCP") from error
    try:
        response = await parse(query, wire)
    except TooMuchWork as error:
        raise QueryFailed(str(error)) from error
    if response is None or response.flags & dns.flags.TC:
        raise QueryFailed("sent an invalid or truncated response over TCP")
    return response


class _UdpExchange(asyncio.DatagramProtocol):
    """The packets received that may respond to a query, and None after MAX_STRAY_PACKETS others, possibly forged."""

    def __init__(self, query_id: int) -> None:
        self._query_id = query_id
        self._packets_left = MAX_STRAY_PACKETS + 1
        self.packets: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Keep the packet if its header is that of a response to the query."""
        del addr  # the socket is connected
        if self._packets_left <= 0:
            return
        self._packets_left -= 1
        if len(data) >= HEADER.size:
            message_id, flags, *_ = HEADER.unpack_from(data)
            if message_id == self._query_id and flags & RESPONSE:
                self.packets.put_nowait(data)
        if not self._packets_left:
            self.packets.put_nowait(None)

    def error_received(self, exc: Exception) -> None:
        """Fail the exchange on an ICMP error."""
        self.packets.put_nowait(exc)


async def _first_response(query: dns.message.Message, exchange: _UdpExchange, parse: Parse) -> dns.message.Message:
    """Return the first packet that responds to the query. Raises OSError, QueryFailed and TooMuchWork."""
    while packet := await exchange.packets.get():
        if isinstance(packet, Exception):
            raise packet
        response = await parse(query, packet)
        if response is not None:
            return response
    raise QueryFailed("sent only packets that do not match the query")


def _timed_out(seconds: float) -> str:
    return f"no response within {seconds:g} s"


def _unreachable(error: OSError) -> str:
    cause = os.strerror(error.errno) if error.errno else type(error).__name__
    return f"is unreachable ({cause})"
