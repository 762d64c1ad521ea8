"""Servers that lie or attack: none passes a record, is believed, or causes more work than is bounded."""

import re

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
from dns.rdatatype import RdataType

from tests.support.dns_probing import INVALID, NOT_FOUND, RECORDS, faults, first, only, probe, second
from tests.support.dns_records import NAME, zone
from tests.support.dns_server import Asked, Internet, Reply, changed, silent

TOKEN_RECORD = RECORDS["domain_validation"]


def about_another_name(asked: Asked) -> Reply:
    """The very value that is wanted, for a name that was not asked for."""
    response = asked.response
    response.flags |= dns.flags.AA
    value = f'"{TOKEN_RECORD.dns_value}"'
    response.answer.append(dns.rrset.from_text("_postroom-challenge.other.test.", 60, "IN", "TXT", value))
    return response


async def test_no_more_is_asked_at_once_than_is_configured(internet: Internet) -> None:
    for server in (first(internet), second(internet)):
        server.answering = silent
    await probe(internet, timeout_seconds=60.0, deadline_seconds=0.8, concurrency=3)
    assert len(internet.asked) == 3


async def test_a_domain_causes_a_bounded_number_of_queries(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    found = faults(await probe(internet, max_queries=9))
    assert len(internet.asked) + len(internet.resolver.asked) == 9
    assert found
    assert all("more than the 9 queries that a domain may cause" in error for error in only(found, INVALID))


async def test_a_flood_of_name_servers_is_not_looked_up(internet: Internet) -> None:
    internet.tell(NAME, RdataType.NS, *[f"ns{number}.victim.test." for number in range(200)])
    only(await probe(internet), INVALID)
    assert len(internet.resolver.asked) <= 1 + 1 + 2 * 6


async def test_forged_packets_do_not_end_the_wait_for_the_answer(internet: Internet) -> None:
    def forge(asked: Asked, response: dns.message.Message) -> Reply:
        forged = dns.message.make_response(dns.message.make_query("other.test", "TXT", id=asked.query.id))
        forged.flags |= dns.flags.AA
        wire = response.to_wire()
        return [b"", b"\x00", bytes([wire[0] ^ 1]) + wire[1:], wire[:-1], forged, asked.query.to_wire(), response]

    internet.publish(NAME, zone(RECORDS))
    first(internet).answering = second(internet).answering = changed(internet.authority, forge)
    assert not faults(await probe(internet))


async def test_a_server_that_sends_nothing_but_junk_is_left(internet: Internet) -> None:
    def junk(asked: Asked) -> Reply:
        return [asked.query.to_wire()] * 30

    first(internet).answering = second(internet).answering = junk
    assert all("packets that are no answer" in error for error in only(await probe(internet), INVALID))


@pytest.mark.parametrize("tcp", [False, True])
async def test_an_answer_of_thousands_of_records_is_not_read(internet: Internet, tcp: bool) -> None:
    def many(asked: Asked) -> Reply:
        response = asked.response
        response.flags |= dns.flags.AA | (0 if asked.tcp == tcp else dns.flags.TC)
        wire = bytearray(response.to_wire())
        if asked.tcp == tcp:
            wire[6:8] = (4_000).to_bytes(2, "big")
        return bytes(wire) + b"\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x00\x00\x02\x01x" * (4_000 if asked.tcp else 90)

    first(internet).answering = second(internet).answering = many
    assert all("more than the 600 that are read" in error for error in only(await probe(internet), INVALID))


async def test_answers_about_other_names_are_not_believed(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    first(internet).answering = second(internet).answering = about_another_name
    only(await probe(internet), NOT_FOUND)


async def test_what_an_answer_adds_behind_an_alias_is_not_believed(internet: Internet) -> None:
    def stuff(asked: Asked, response: dns.message.Message) -> Reply:
        if response.answer and response.answer[0].rdtype is RdataType.CNAME:
            value = f'"{TOKEN_RECORD.dns_value}"'
            response.answer.append(dns.rrset.from_text("token.other.test.", 60, "IN", "TXT", value))
        return response

    await internet.delegate("other.test", "127.0.0.3")
    internet.publish("other.test", "")
    internet.publish(NAME, zone(RECORDS, {"domain_validation": ["CNAME token.other.test."]}))
    first(internet).answering = second(internet).answering = changed(internet.authority, stuff)
    found = faults(await probe(internet))
    assert set(found) == {"domain_validation"}
    assert found["domain_validation"][0] is NOT_FOUND


async def test_a_resolver_that_answers_for_every_name_proves_nothing(internet: Internet) -> None:
    """As those do that lead who mistypes a name to a page of their own."""

    def redirect(asked: Asked, response: dns.message.Message) -> Reply:
        value = f'"{TOKEN_RECORD.dns_value}"'
        if not response.answer:
            response.set_rcode(dns.rcode.NOERROR)
            response.answer.append(dns.rrset.from_text(asked.name, 60, "IN", "A", "127.0.0.1"))
            response.answer.append(dns.rrset.from_text(TOKEN_RECORD.dns_name + ".", 60, "IN", "TXT", value))
        return response

    internet.resolver.answering = changed(internet.resolve, redirect)
    internet.publish(NAME, "")
    only(await probe(internet), NOT_FOUND)


async def test_name_servers_of_another_name_are_not_believed(internet: Internet) -> None:
    def lie(asked: Asked, response: dns.message.Message) -> Reply:
        del asked
        response.answer = [dns.rrset.from_text("other.test.", 60, "IN", "NS", f"ns1.{NAME}.")]
        return response

    internet.publish(NAME, zone(RECORDS))
    internet.resolver.answering = changed(internet.resolve, lie)
    assert all("no name servers were found of it" in error for error in only(await probe(internet), INVALID))
    assert not internet.asked


async def test_servers_at_private_addresses_are_not_asked_unless_allowed(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    for error in only(await probe(internet, allow_private=False), INVALID):
        assert "no name server of example.com can be asked: ns" in error
        assert "ns1.example.com has no public address" in error
        assert "127.0.0" not in error
    assert not internet.asked


async def test_an_alias_into_the_operators_network_is_not_followed(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroomd.dns.lookup.is_public", lambda address: str(address) in {"127.0.0.1", "127.0.0.2"})
    await internet.delegate("corp.internal", "127.0.0.3")
    internet.publish("corp.internal", '_dmarc 60 IN TXT "a secret"\n')
    internet.publish(NAME, zone(RECORDS, {"dmarc": ["CNAME _dmarc.corp.internal."]}))
    found = faults(await probe(internet, allow_private=False))
    assert set(found) == {"dmarc"}
    assert "ns1.corp.internal has no public address" in found["dmarc"][1]
    assert "127.0.0.3" not in found["dmarc"][1]
    assert not internet.servers["127.0.0.3"].asked


async def test_hostile_text_from_the_network_is_made_printable(internet: Internet) -> None:
    hostile = 'TXT "\\027[31m\\000\\013\\010evil\\226\\128\\174" ' + " ".join(f'"{"x" * 255}"' for _ in range(200))
    internet.publish(NAME, zone(RECORDS, {"domain_validation": [hostile]}))
    status, error = faults(await probe(internet))["domain_validation"]
    assert status is INVALID
    assert error.isprintable()
    assert r'found "\027[31m\000\013\010evil\226\128\174x' in error


async def test_hostile_host_names_are_made_printable(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS, {"mx": [r"MX 10 a\027\000\032b\"c.test."]}))
    status, error = faults(await probe(internet))["mx"]
    assert status is INVALID
    assert error.isprintable()
    assert re.search(r"a\\+027\\+000\\+032b", error)
