"""Hostile servers: no forged record is accepted, and the work they cause is bounded."""

import re
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
from dns.rdatatype import RdataType

from tests.support.dns_probe import (
    INVALID,
    NOT_FOUND,
    RECORDS,
    UNANSWERED,
    errors_with,
    faults,
    first_server,
    probe,
    second_server,
)
from tests.support.dns_records import NAME, zone
from tests.support.dns_server import Internet, ReceivedQuery, Reply, modified, no_reply

TOKEN_RECORD = RECORDS["domain_validation"]


def about_another_name(received: ReceivedQuery) -> Reply:
    """Reply with the expected value for a name that was not queried."""
    response = received.response
    response.flags |= dns.flags.AA
    value = f'"{TOKEN_RECORD.dns_value}"'
    response.answer.append(dns.rrset.from_text("_postroom-challenge.other.test.", 60, "IN", "TXT", value))
    return response


async def test_parallel_queries_are_limited(internet: Internet) -> None:
    for server in (first_server(internet), second_server(internet)):
        server.handler = no_reply
    await probe(internet, timeout_seconds=60.0, deadline_seconds=2.0, concurrency=3)
    assert len(internet.queries) == 3


async def test_the_packet_budget_of_a_domain_is_enforced(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    found = faults(await probe(internet, max_packets=9))
    assert len(internet.queries) == 9
    assert found
    assert all("more than the 9 packets allowed per domain" in error for error in errors_with(found, UNANSWERED))


async def test_retransmissions_count_towards_the_packet_budget(internet: Internet) -> None:
    for server in (first_server(internet), second_server(internet)):
        server.handler = no_reply
    await probe(internet, max_packets=5, timeout_seconds=0.3)
    assert len(internet.queries) == 5


async def test_the_resolver_budget_of_a_domain_is_enforced(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    errors = errors_with(await probe(internet, max_resolver_queries=1), UNANSWERED)
    assert len(internet.resolver.queries) == 1
    assert all("more than the 1 queries to resolvers allowed per domain" in error for error in errors)


async def test_an_unresponsive_domain_causes_few_packets(internet: Internet) -> None:
    hosts = [f"ns{number}.{NAME}." for number in range(9)]
    internet.set_resolver_records(NAME, RdataType.NS, *hosts)
    for number, host in enumerate(hosts):
        addresses = [f"127.0.{number + 1}.{last}" for last in range(1, 5)]
        await internet.delegate(host.removesuffix("."), *addresses)
        internet.set_resolver_records(host, RdataType.A, *addresses)
    for server in internet.servers.values():
        server.handler = no_reply
    errors_with(await probe(internet, timeout_seconds=0.5), UNANSWERED)
    queried = [server for server in internet.servers.values() if server.queries]
    assert len(queried) == 4 * 2  # name servers, addresses of each
    assert max(len(server.queries) for server in queried) <= 2 * 2  # queries, each sent twice


async def test_a_flood_of_name_servers_is_truncated(internet: Internet) -> None:
    internet.set_resolver_records(NAME, RdataType.NS, *[f"ns{number}.victim.test." for number in range(200)])
    errors_with(await probe(internet), UNANSWERED)
    assert len(internet.resolver.queries) <= 1 + 1 + 2 * 4


async def test_forged_packets_do_not_end_the_wait_for_the_response(internet: Internet) -> None:
    def forge(received: ReceivedQuery, response: dns.message.Message) -> Reply:
        forged = dns.message.make_response(dns.message.make_query("other.test", "TXT", id=received.query.id))
        forged.flags |= dns.flags.AA
        wire = response.to_wire()
        return [b"", b"\x00", bytes([wire[0] ^ 1]) + wire[1:], wire[:-1], forged, received.query.to_wire(), response]

    internet.publish(NAME, zone(RECORDS))
    first_server(internet).handler = second_server(internet).handler = modified(internet.authority, forge)
    assert not faults(await probe(internet))


async def test_a_server_that_sends_only_stray_packets_is_abandoned(internet: Internet) -> None:
    def junk(received: ReceivedQuery) -> Reply:
        return [received.query.to_wire()] * 30

    first_server(internet).handler = second_server(internet).handler = junk
    assert all(
        "only packets that do not match the query" in error for error in errors_with(await probe(internet), UNANSWERED)
    )


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_response_with_thousands_of_records_is_not_parsed(internet: Internet, tcp: bool) -> None:
    def flood(received: ReceivedQuery) -> Reply:
        response = received.response
        response.flags |= dns.flags.AA | (0 if received.tcp == tcp else dns.flags.TC)
        wire = bytearray(response.to_wire())
        if received.tcp == tcp:
            wire[6:8] = (4_000).to_bytes(2, "big")
        return bytes(wire) + b"\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x00\x00\x02\x01x" * (4_000 if received.tcp else 90)

    first_server(internet).handler = second_server(internet).handler = flood
    assert all("(maximum 600)" in error for error in errors_with(await probe(internet), UNANSWERED))


async def test_a_response_with_hundreds_of_long_names_is_not_parsed(internet: Internet) -> None:
    """Compression makes dozens of names of 126 labels fit into one packet."""

    def flood(received: ReceivedQuery) -> Reply:
        response = received.response
        response.flags |= dns.flags.AA
        wire = bytearray(response.to_wire())
        wire[6:8] = (41).to_bytes(2, "big")
        long_name = (0xC000 | len(wire)).to_bytes(2, "big")
        record = b"\x00\x0f\x00\x01\x00\x00\x00\x00\x00\x04\x00\x01" + long_name
        return bytes(wire) + b"\x01a" * 126 + b"\x00" + record + (long_name + record) * 40

    first_server(internet).handler = second_server(internet).handler = flood
    assert all("too costly to parse" in error for error in errors_with(await probe(internet), UNANSWERED))


async def test_costly_responses_end_the_lookups(internet: Internet) -> None:
    def flood(received: ReceivedQuery) -> Reply:
        response = received.response
        response.flags |= dns.flags.AA
        name = ".".join("abcdefghi")
        values = [f"{number} {name}." for number in range(200)]
        response.answer.append(dns.rrset.from_text_list(f"{name}.", 60, "IN", "MX", values))
        return response.to_wire(max_size=65_535)

    first_server(internet).handler = second_server(internet).handler = flood
    found = await probe(internet)
    rejected = [error for _, error in found.values() if "the responses of its servers are too costly" in error]
    assert rejected
    assert {status for status, error in found.values() if error in rejected} == {UNANSWERED}
    assert len(internet.queries) < 40


async def test_costly_packets_about_another_name_are_not_all_parsed(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    from_wire = dns.message.from_wire

    def count(wire: bytes, *arguments: Any, **options: Any) -> dns.message.Message:
        if len(wire) > 1_000:
            parsed.append(wire)
        return from_wire(wire, *arguments, **options)

    def flood(received: ReceivedQuery) -> Reply:
        response = dns.message.make_response(dns.message.make_query("other.test", "MX", id=received.query.id))
        name = ".".join("abcdefghi")
        values = [f"{number} {name}." for number in range(150)]
        response.answer.append(dns.rrset.from_text_list(f"{name}.", 60, "IN", "MX", values))
        return [response.to_wire(max_size=65_535)] * 20

    monkeypatch.setattr(dns.message, "from_wire", count)
    first_server(internet).handler = second_server(internet).handler = flood
    errors_with(await probe(internet), UNANSWERED)
    assert 0 < len(parsed) < 20


async def test_records_of_other_names_are_ignored(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    first_server(internet).handler = second_server(internet).handler = about_another_name
    errors_with(await probe(internet), NOT_FOUND)


async def test_records_added_behind_a_cname_are_ignored(internet: Internet) -> None:
    def add_token(received: ReceivedQuery, response: dns.message.Message) -> Reply:
        if response.answer and response.answer[0].rdtype is RdataType.CNAME:
            value = f'"{TOKEN_RECORD.dns_value}"'
            response.answer.append(dns.rrset.from_text("token.other.test.", 60, "IN", "TXT", value))
        return response

    await internet.delegate("other.test", "127.0.0.3")
    internet.publish("other.test", "")
    internet.publish(NAME, zone(RECORDS, {"domain_validation": ["CNAME token.other.test."]}))
    first_server(internet).handler = second_server(internet).handler = modified(internet.authority, add_token)
    found = faults(await probe(internet))
    assert set(found) == {"domain_validation"}
    assert found["domain_validation"][0] is NOT_FOUND


async def test_a_resolver_that_redirects_every_name_validates_nothing(internet: Internet) -> None:
    """Some resolvers rewrite NXDOMAIN to the address of an advertising page."""

    def redirect(received: ReceivedQuery, response: dns.message.Message) -> Reply:
        value = f'"{TOKEN_RECORD.dns_value}"'
        if not response.answer:
            response.set_rcode(dns.rcode.NOERROR)
            response.answer.append(dns.rrset.from_text(received.name, 60, "IN", "A", "127.0.0.1"))
            response.answer.append(
                dns.rrset.from_text(TOKEN_RECORD.dns_name.removesuffix(".") + ".", 60, "IN", "TXT", value)
            )
        return response

    internet.resolver.handler = modified(internet.resolve, redirect)
    internet.publish(NAME, "")
    errors_with(await probe(internet), NOT_FOUND)


async def test_name_servers_of_another_name_are_ignored(internet: Internet) -> None:
    def replace_owner(received: ReceivedQuery, response: dns.message.Message) -> Reply:
        del received
        response.answer = [dns.rrset.from_text("other.test.", 60, "IN", "NS", f"ns1.{NAME}.")]
        return response

    internet.publish(NAME, zone(RECORDS))
    internet.resolver.handler = modified(internet.resolve, replace_owner)
    assert all(
        "neither it nor any parent name has name servers" in error
        for error in errors_with(await probe(internet), UNANSWERED)
    )
    assert not internet.queries


async def test_private_addresses_are_queried_only_if_allowed(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    for error in errors_with(await probe(internet, allow_private=False), UNANSWERED):
        assert "no name server of example.com can be queried: ns" in error
        assert "ns1.example.com has no public address" in error
        assert "127.0.0" not in error
    assert not internet.queries


async def test_a_cname_into_a_private_network_is_not_followed(
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
    assert not internet.servers["127.0.0.3"].queries


async def test_hostile_text_from_the_network_becomes_printable(internet: Internet) -> None:
    hostile = 'TXT "postroom-validation=\\027[31m\\000\\013\\010evil\\226\\128\\174" ' + " ".join(
        f'"{"x" * 255}"' for _ in range(200)
    )
    internet.publish(NAME, zone(RECORDS, {"domain_validation": [hostile]}))
    status, error = faults(await probe(internet))["domain_validation"]
    assert status is INVALID
    assert error.isprintable()
    assert r'found "postroom-validation=\027[31m\000\013\010evil\226\128\174x' in error


async def test_hostile_host_names_become_printable(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS, {"mx": [r"MX 10 a\027\000\032b\"c.test."]}))
    status, error = faults(await probe(internet))["mx"]
    assert status is INVALID
    assert error.isprintable()
    assert re.search(r"a\\+027\\+000\\+032b", error)
