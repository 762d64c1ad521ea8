"""Bounds on the work that the octets of a DNS message cause, checked before dnspython parses them.

A name takes dnspython time in proportion to the square of its labels, and a pointer of two octets stands for up to
126 of them: 600 records in 12 KB block the event loop for four seconds. Here labels are counted without building
the names, and records of types that no lookup needs become opaque.
"""

import struct

from dns.rdatatype import RdataType

MAX_RECORDS = 600  # per message, questions included; providers allow far fewer under one name
MAX_WORK = 200_000  # about 0.1 s: twelve names of 127 labels, or all records with names of 13
STRING_WORK = 25  # of a TXT string or an EDNS option, in squared labels

HEADER = struct.Struct("!HHHHHH")  # RFC 1035, section 4.1.1: id, flags, record counts of the four sections
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


def bounded(wire: bytes) -> bytes:
    """Return the message with the records of types that no lookup needs made opaque.

    Of a truncated message, only the question is checked. Raises TooMuchWork and MalformedMessage.
    """
    try:
        _, flags, *counts = HEADER.unpack_from(wire)
        if sum(counts) > MAX_RECORDS:
            raise TooMuchWork(f"returned {sum(counts)} records (maximum {MAX_RECORDS})")
        scan = _Scan(wire)
        for _ in range(counts[0]):
            scan.question()
        for _ in range(0 if flags & TRUNCATED else sum(counts[1:])):
            scan.record()
    except (struct.error, IndexError) as error:
        raise MalformedMessage from error
    return bytes(scan.wire)


class _Scan:
    """One pass over a message. Reading beyond its end raises IndexError or struct.error."""

    def __init__(self, wire: bytes) -> None:
        self.wire = bytearray(wire)
        self._position = HEADER.size
        self._work = 0

    def question(self) -> None:
        self._position = self._name(self._position) + _QUESTION_BYTES

    def record(self) -> None:
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
        self._add((labels + 1) ** 2)
        return after or position + 1

    def _add(self, work: int) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise TooMuchWork("returned a response that is too costly to parse, by its names or strings")
