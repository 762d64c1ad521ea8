"""One query to one server, over UDP or TCP: what comes back is an answer to it, or NoAnswer says why there is none.

The sockets are asyncio's and the messages dnspython's. Its own `asyncquery` reads whatever a server sends in full
before anyone can look at it, and 64 KiB of tiny records hold up the event loop for a second: here the counts in the
header are read first.
"""

import asyncio
import os
import struct

import dns.flags
import dns.message

from postroomd.dns.config import Endpoint

EDNS_PAYLOAD = 1_232  # octets: what passes without fragments (RFC 9715, section 3.1)
MOST_RECORDS = 600  # of one message; what a provider lets a customer publish under a name is well below
MOST_STRAY_PACKETS = 20

_HEADER = struct.Struct("!HHHHHH")  # RFC 1035, section 4.1.1: id, flags, and the counts of the four sections


class NoAnswer(Exception):
    """A server has given no answer. The text says how, as a clause."""


class _TooLarge(Exception):
    """A message that has more records than are read."""


async def ask_over_udp(query: dns.message.Message, server: Endpoint, patience: float) -> dns.message.Message:
    """The answer to a query, with no more than its header and question where it is truncated. Raises NoAnswer.

    The query is sent a second time when a third of the time has passed: one packet may be lost.
    """
    loop = asyncio.get_running_loop()
    wire = query.to_wire()
    conversation = _Conversation(query)
    try:
        async with asyncio.timeout(patience):
            # Connected: the kernel then drops packets from elsewhere, and tells of a port that is closed.
            transport, _ = await loop.create_datagram_endpoint(
                lambda: conversation, remote_addr=(server.address, server.port)
            )
            try:
                transport.sendto(wire)
                again = loop.call_later(patience / 3, transport.sendto, wire)
                try:
                    return await conversation.answer
                finally:
                    again.cancel()
            finally:
                transport.close()
    except TimeoutError:
        raise NoAnswer(_overdue(patience)) from None
    except OSError as error:
        raise NoAnswer(_explained(error)) from error


async def ask_over_tcp(query: dns.message.Message, server: Endpoint, patience: float) -> dns.message.Message:
    """The answer to a query, in full (RFC 7766). Raises NoAnswer."""
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(server.address, server.port)
            try:
                writer.write(query.to_wire(prepend_length=True))
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                wire = await reader.readexactly(length)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise NoAnswer(f"{_overdue(patience)} over TCP") from None
    except EOFError as error:
        raise NoAnswer("closed the TCP connection without an answer") from error
    except OSError as error:
        raise NoAnswer(f"{_explained(error)} over TCP") from error
    try:
        answer = _read(query, wire)
    except _TooLarge as error:
        raise NoAnswer(str(error)) from error
    if answer is None or answer.flags & dns.flags.TC:
        raise NoAnswer("sends what is no answer to the query, or only a part of one, over TCP")
    return answer


class _Conversation(asyncio.DatagramProtocol):
    """Waits for the one packet that answers a query. Others, which anyone may have forged, are passed over."""

    def __init__(self, query: dns.message.Message) -> None:
        self._query = query
        self._strays = 0
        self.answer: asyncio.Future[dns.message.Message] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take a packet, where it answers the query."""
        del addr  # the socket is connected
        if self.answer.done():
            return
        try:
            answer = _read(self._query, data)
        except _TooLarge as error:
            self.answer.set_exception(NoAnswer(str(error)))
            return
        if answer is not None:
            self.answer.set_result(answer)
            return
        self._strays += 1
        if self._strays > MOST_STRAY_PACKETS:  # to read them without end would be work for nothing
            self.answer.set_exception(NoAnswer("sends packets that are no answer to the query"))

    def error_received(self, exc: Exception) -> None:
        """The network says that the packet has not arrived."""
        if not self.answer.done():
            self.answer.set_exception(exc)


def _read(query: dns.message.Message, wire: bytes) -> dns.message.Message | None:
    """The message, or None where it is malformed or answers another query. Raises _TooLarge."""
    if len(wire) < _HEADER.size:
        return None
    identity, flags, *counts = _HEADER.unpack_from(wire)
    if identity != query.id:
        return None
    if sum(counts) > MOST_RECORDS:
        raise _TooLarge(f"answers with {sum(counts)} records, more than the {MOST_RECORDS} that are read")
    try:
        # A truncated message may end in the midst of a record.
        answer = dns.message.from_wire(wire, question_only=bool(flags & dns.flags.TC), ignore_trailing=True)
    except Exception:  # a hostile message may raise anything, and none of it may end the worker
        return None
    return answer if query.is_response(answer) else None


def _overdue(patience: float) -> str:
    return f"no answer within {patience:g} s"


def _explained(error: OSError) -> str:
    cause = os.strerror(error.errno) if error.errno else type(error).__name__
    return f"can't be reached ({cause})"
