"""Bounds on the work that the octets of a DNS message cause, checked before dnspython parses them.

A pointer of two octets stands for a name of up to 126 labels, each of which takes dnspython time: 600 records in 12 KB
block the event loop for four seconds. Here labels are counted without building the names, and records of types that no
lookup needs become opaque. Work is in microseconds, as measured on one core, evaluation of the texts included.
"""

import struct
from dataclasses import dataclass

from dns.rdatatype import RdataType

MAX_RECORDS = 600  # per message, questions included; providers allow far fewer under one name
MAX_WORK = 30_000  # per message: 270 texts of 100 octets, or 14 names of 127 labels
MAX_TOTAL_WORK = 150_000  # per validation
RECORD_WORK = 20
STRING_WORK = 4  # of a TXT string or an EDNS option

HEADER = struct.Struct("!HHHHHH")  # RFC 1035, section 4.1.1: id, flags, record counts of the four sections
RESPONSE = 0x8000  # the flag QR
TRUNCATED = 0x0200  # the flag TC

_RECORD = struct.Struct("!HHIH")  # section 4.1.3: type, class, time to live, octets of data
_QUESTION_BYTES = 4
_OPAQUE_TYPE = (65_280).to_bytes(2)  # for private use (RFC 6895, section 3.1)
_MAX_LABELS = 127
_POINTER = 0xC0

_NAMES: dict[int, tuple[int, int]] = {
    RdataType.NS: (0, 1),
    RdataType.CNAME: (0, 1),
    RdataType.SOA: (0, 2),
    RdataType.MX: (2, 1),
    RdataType.SRV: (6, 1),
}
"""Types with names in their data -> octets before the names, number of names."""
_WITHOUT_NAMES = frozenset({RdataType.A, RdataType.AAAA, RdataType.TXT, RdataType.OPT})


class TooMuchWork(Exception):
    """The message is too costly to parse. The text is a clause whose subject is the server."""


class MalformedMessage(Exception):
    """The octets are not a DNS message."""


@dataclass(slots=True)
class Work:
    """The work that messages have caused."""

    spent: int = 0


def bounded(wire: bytes, total: Work | None = None) -> bytes:
    """Return the message with the records of types that no lookup needs made opaque, and add its work to a total.

    Of a truncated message, only the question is checked. Raises TooMuchWork and MalformedMessage.
    """
    scan = _Scan(wire)
    try:
        _, flags, *counts = HEADER.unpack_from(wire)
        if sum(counts) > MAX_RECORDS:
            raise TooMuchWork(f"returned {sum(counts)} records (maximum {MAX_RECORDS})")
        for _ in range(counts[0]):
            scan.question()
        for _ in range(0 if flags & TRUNCATED else sum(counts[1:])):
            scan.record()
    except (struct.error, IndexError) as error:
        raise MalformedMessage from error
    finally:
        if total is not None:
            total.spent += scan.work
    return bytes(scan.wire)


class _Scan:
    """One pass over a message. Reading beyond its end raises IndexError or struct.error."""

    def __init__(self, wire: bytes) -> None:
        self.wire = bytearray(wire)
        self._position = HEADER.size
        self.work = 0

    def question(self) -> None:
        self._position = self._name(self._position) + _QUESTION_BYTES

    def record(self) -> None:
        self._add(RECORD_WORK)
        start = self._name(self._position)
        rdtype, _, _, length = _RECORD.unpack_from(self.wire, start)
        data = start + _RECORD.size
        self._position = data + length
        if self._position > len(self.wire):
            raise MalformedMessage
        if rdtype in _NAMES:
            skipped, names = _NAMES[rdtype]
            position = data + skipped
            for _ in range(names):
                position = self._name(position)
        elif rdtype == RdataType.TXT:
            self._add(length // 2)
            while data < self._position:
                data += 1 + self.wire[data]
                self._add(STRING_WORK)
        elif rdtype == RdataType.OPT:
            self._add(length // 4 * STRING_WORK)  # an option has at least 4 octets (RFC 6891, section 6.1.2)
        elif rdtype not in _WITHOUT_NAMES:
            self.wire[start : start + 2] = _OPAQUE_TYPE

    def _name(self, position: int) -> int:
        """Count the name at a position, and return the position after it."""
        after, labels = None, 0
        while length := self.wire[position]:
            if length >= _POINTER:
                target = (length - _POINTER) << 8 | self.wire[position + 1]
                after = after or position + 2
                if target >= position:  # pointers lead backwards, so that they end
                    raise MalformedMessage
                position = target
                continue
            position += 1 + length
            labels += 1
            if labels > _MAX_LABELS:
                raise MalformedMessage
        self._add(20 + 4 * labels + labels**2 // 11)
        return after or position + 1

    def _add(self, work: int) -> None:
        self.work += work
        if self.work > MAX_WORK:
            raise TooMuchWork("returned a response that is too costly to parse, by its names or strings")
