"""The bounds on the work that a message causes, before it is parsed."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rrset
import pytest
from dns.rdatatype import RdataType

from postroomd.dns.wire import MAX_RECORDS, MalformedMessage, TooMuchWork, Work, bounded

LONG_NAME = b"\1a" * 126 + b"\0"
QUERY = dns.message.make_query("example.com", "MX")


def message(*records: str) -> dns.message.Message:
    response = dns.message.make_response(QUERY)
    for record in records:
        owner, rdtype, value = record.split(" ", 2)
        rrset = dns.rrset.from_text_list(f"{owner}.", 60, "IN", rdtype, [value], origin=dns.name.root, relativize=False)
        response.answer.append(rrset)
    return response


def wire(*records: tuple[bytes, int, bytes], question: bytes = b"\7example\3com\0") -> bytes:
    """Return a response with records of owner, type and data, whose first octet is at `wire()`'s length."""
    header = struct.pack("!HHHHHH", QUERY.id, 0x8400, 1, len(records), 0, 0)
    parts = [header, question, struct.pack("!HH", RdataType.MX, 1)]
    parts += [owner + struct.pack("!HHIH", rdtype, 1, 60, len(data)) + data for owner, rdtype, data in records]
    return b"".join(parts)


OWNER = b"\xc0\x0c"  # a pointer to the question
LONG_POINTER = struct.pack("!H", 0xC000 | (len(wire()) + 12 + 2))  # to the name of the first MX record
LONG_MX = (OWNER, RdataType.MX, b"\0\1" + LONG_NAME)


@pytest.mark.parametrize(
    "records",
    [
        [(b"\1b" + LONG_POINTER, RdataType.A, b"\x7f\0\0\1")] * 20,
        [(OWNER, RdataType.MX, b"\0\1" + LONG_POINTER)] * 20,
        [(OWNER, RdataType.SRV, b"\0\1\0\1\0\1" + LONG_POINTER)] * 20,
        [(OWNER, RdataType.NS, LONG_POINTER)] * 20,
        [(OWNER, RdataType.CNAME, LONG_POINTER)] * 20,
        [(OWNER, RdataType.SOA, LONG_POINTER * 2 + bytes(20))] * 10,
        [(b"\1b" + LONG_POINTER, 65_281, b"")] * 20,
        [(OWNER, RdataType.TXT, b"\1x" * 10_000)],
        [(b"\0", RdataType.OPT, struct.pack("!HH", 10, 0) * 10_000)],
    ],
    ids=["owner", "mx", "srv", "ns", "cname", "soa", "unknown", "txt", "opt"],
)
def test_a_message_that_takes_too_long_to_parse_is_rejected(records: list[tuple[bytes, int, bytes]]) -> None:
    with pytest.raises(TooMuchWork, match="too costly to parse"):
        bounded(wire(LONG_MX, *records))


def test_long_names_in_the_question_count() -> None:
    with pytest.raises(TooMuchWork, match="too costly to parse"):
        bounded(wire(*[(OWNER, RdataType.A, b"\x7f\0\0\1")] * 20, question=LONG_NAME))


def test_a_message_with_many_records_is_rejected() -> None:
    with pytest.raises(TooMuchWork, match=f"returned {MAX_RECORDS + 1} records"):
        bounded(wire(*[(OWNER, RdataType.A, b"\x7f\0\0\1")] * MAX_RECORDS))


@pytest.mark.parametrize(
    "record",
    [(OWNER, RdataType.TXT, (b"\xff" + b"x" * 255) * 255), (b"\1b" + OWNER, RdataType.A, b"\x7f\0\0\1")],
    ids=["octets of a text", "records"],
)
def test_octets_and_records_are_work(record: tuple[bytes, int, bytes]) -> None:
    records = [record] * (1 if record[1] == RdataType.TXT else MAX_RECORDS - 1)
    with pytest.raises(TooMuchWork, match="too costly to parse"):
        bounded(wire(*records))


def test_the_work_of_a_message_is_added_to_the_total_even_if_it_is_rejected() -> None:
    total = Work()
    bounded(wire(LONG_MX), total)
    accepted = total.spent
    with pytest.raises(MalformedMessage):
        bounded(wire(LONG_MX, LONG_MX)[:-1], total)
    assert accepted > 0
    assert total.spent > 2 * accepted


def test_a_long_name_with_the_records_of_a_domain_is_accepted() -> None:
    name = ".".join(["a"] * 120)
    response = message(
        f"{name} MX 10 mx.{name[40:]}", f"{name} TXT {' '.join(['x'] * 300)}", f"{name} NS ns.{name[40:]}"
    )
    assert dns.message.from_wire(bounded(response.to_wire())) == response


def test_the_records_that_lookups_need_are_unchanged() -> None:
    response = message(
        "example.com MX 10 mx.example.com",
        "example.com NS ns1.example.com",
        "example.com SOA ns1.example.com hostmaster.example.com 1 2 3 4 5",
        'example.com TXT "v=spf1" " -all"',
        "www.example.com CNAME example.net",
        "_imaps._tcp.example.com SRV 0 1 993 imap.example.com",
        "example.com A 192.0.2.1",
        "example.com AAAA 2001:db8::1",
    )
    response.use_edns(0, options=[dns.edns.GenericOption(dns.edns.OptionType.NSID, b"12345678")])
    assert bounded(response.to_wire()) == response.to_wire()


@pytest.mark.parametrize("rdtype", ["SVCB 1 example.net alpn=h2", "APL 1:192.0.2.0/24", "NSEC example.net A MX"])
def test_records_of_other_types_become_opaque(rdtype: str) -> None:
    response = message(f"example.com {rdtype}", "example.com MX 10 mx.example.com")
    parsed = dns.message.from_wire(bounded(response.to_wire()))
    assert [each.rdtype for each in parsed.answer] == [65_280, RdataType.MX]
    assert parsed.answer[1] == response.answer[1]


def test_of_a_truncated_message_only_the_question_is_checked() -> None:
    response = message("example.com MX 10 mx.example.com")
    response.flags |= dns.flags.TC
    assert bounded(response.to_wire()[:-4]) == response.to_wire()[:-4]


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        b"\0" * 11,
        wire(LONG_MX)[:-1],
        wire((OWNER, RdataType.MX, b"\0")),
        wire((b"\xc0\xff", RdataType.A, b"\x7f\0\0\1")),
        wire((struct.pack("!H", 0xC000 | len(wire())), RdataType.A, b"\x7f\0\0\1")),
        wire((b"\1a" * 128 + b"\0", RdataType.A, b"\x7f\0\0\1")),
    ],
    ids=["empty", "header", "data", "no-name", "pointer-beyond", "pointer-to-itself", "labels"],
)
def test_a_malformed_message_is_rejected(malformed: bytes) -> None:
    with pytest.raises(MalformedMessage):
        bounded(malformed)
