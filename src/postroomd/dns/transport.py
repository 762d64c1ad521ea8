"""One DNS query to one server over UDP or TCP.

dnspython builds and parses the messages, asyncio does the I/O. `dns.asyncquery` parses any response in full, which may
block the event loop for seconds: here the work is bounded first, by `wire`.
"""

import asyncio
import os
import struct
from collections.abc import Callable

import dns.flags
import dns.message

from postroomd.dns.config import Endpoint
from postroomd.dns.wire import HEADER, TRUNCATED, TooMuchWork, bounded

EDNS_PAYLOAD = 1_232  # octets that pass without fragmentation (RFC 9715, section 3.1)
MAX_STRAY_PACKETS = 20


class QueryFailed(Exception):
    """A server returned no usable response. The text is a clause whose subject is the server."""


async def query_udp(
    query: dns.message.Message, server: Endpoint, timeout_seconds: float, may_retransmit: Callable[[], bool]
) -> dns.message.Message:
    """Return the response to a query; header and question only if it is truncated. Raises QueryFailed.

    The query is retransmitted once, after a third of `timeout_seconds`, if `may_retransmit` returns true then.
    """
    loop = asyncio.get_running_loop()
    wire = query.to_wire()
    exchange = _UdpExchange(query)
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
                    return await exchange.response
                finally:
                    retransmission.cancel()
            finally:
                transport.close()
    except TimeoutError:
        raise QueryFailed(_timed_out(timeout_seconds)) from None
    except OSError as error:
        raise QueryFailed(_unreachable(error)) from error


async def query_tcp(query: dns.message.Message, server: Endpoint, timeout_seconds: float) -> dns.message.Message:
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
        response = _parse(query, wire)
    except TooMuchWork as error:
        raise QueryFailed(str(error)) from error
    if response is None or response.flags & dns.flags.TC:
        raise QueryFailed("sent an invalid or truncated response over TCP")
    return response


class _UdpExchange(asyncio.DatagramProtocol):
    """Waits for the packet that responds to a query; others, possibly forged, are ignored up to MAX_STRAY_PACKETS."""

    def __init__(self, query: dns.message.Message) -> None:
        self._query = query
        self._stray_packets = 0
        self.response: asyncio.Future[dns.message.Message] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Resolve `response` if the packet is the response to the query."""
        del addr  # the socket is connected
        if self.response.done():
            return
        try:
            response = _parse(self._query, data)
        except TooMuchWork as error:
            self.response.set_exception(QueryFailed(str(error)))
            return
        if response is not None:
            self.response.set_result(response)
            return
        self._stray_packets += 1
        if self._stray_packets > MAX_STRAY_PACKETS:
            self.response.set_exception(QueryFailed("sent only packets that do not match the query"))

    def error_received(self, exc: Exception) -> None:
        """Fail the exchange on an ICMP error."""
        if not self.response.done():
            self.response.set_exception(exc)


def _parse(query: dns.message.Message, wire: bytes) -> dns.message.Message | None:
    """Return the message, or None if it is malformed or responds to another query. Raises TooMuchWork."""
    if len(wire) < HEADER.size:
        return None
    message_id, flags, *_ = HEADER.unpack_from(wire)
    if message_id != query.id:
        return None
    try:
        # A truncated message may end within a record.
        response = dns.message.from_wire(bounded(wire), question_only=bool(flags & TRUNCATED), ignore_trailing=True)
    except TooMuchWork:
        raise
    except Exception:  # parsing hostile input may raise anything
        return None
    return response if query.is_response(response) else None


def _timed_out(seconds: float) -> str:
    return f"no response within {seconds:g} s"


def _unreachable(error: OSError) -> str:
    cause = os.strerror(error.errno) if error.errno else type(error).__name__
    return f"is unreachable ({cause})"
