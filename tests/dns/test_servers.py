"""Failing servers: fallback to the next one, and errors that name each server and its failure."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from time import monotonic

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
import uvloop
from dns.rdatatype import RdataType

from postroomd.dns import DnsProber
from tests.support.dns_probe import (
    DOMAIN,
    RECORDS,
    UNANSWERED,
    VALID,
    errors_with,
    faults,
    first_server,
    probe,
    second_server,
)
from tests.support.dns_records import NAME, dns_config, make_domain, records_of, zone
from tests.support.dns_server import Handler, Internet, ReceivedQuery, Reply, Server, modified, no_reply, rcode_reply

TOKEN_RECORD = RECORDS["domain_validation"]


def without_authority(received: ReceivedQuery, response: dns.message.Message) -> Reply:
    del received
    response.flags &= ~dns.flags.AA
    return response


def referring_upward(received: ReceivedQuery) -> Reply:
    response = received.response
    response.authority.append(dns.rrset.from_text(dns.name.root, 60, "IN", "NS", "a.root-servers.test."))
    return response


def referring_to_itself(received: ReceivedQuery) -> Reply:
    response = received.response
    response.authority.append(dns.rrset.from_text(f"{NAME}.", 60, "IN", "NS", f"ns1.{NAME}."))
    return response


FAILING = [
    (rcode_reply(dns.rcode.SERVFAIL), "returned SERVFAIL"),
    (rcode_reply(dns.rcode.REFUSED), "returned REFUSED"),
    (rcode_reply(dns.rcode.FORMERR), "returned FORMERR"),
    (referring_upward, "is not authoritative for example.com (lame delegation)"),
    (referring_to_itself, "is not authoritative for example.com (lame delegation)"),
    (no_reply, "no response within 1 s"),
]


@pytest.mark.parametrize(("handler", "_text"), FAILING)
async def test_the_next_server_is_queried_after_a_failure(internet: Internet, handler: Handler, _text: str) -> None:
    internet.publish(NAME, zone(RECORDS))
    first_queried: list[str] = []  # resolvers return addresses in any order

    def one_of(server: Server, received: ReceivedQuery) -> Reply:
        first_queried.append(server.address)
        return handler(received) if server.address == first_queried[0] else internet.authority(received)

    for server in (first_server(internet), second_server(internet)):
        server.handler = partial(one_of, server)
    assert not faults(await probe(internet, timeout_seconds=1.0))
    assert set(first_queried) == {"127.0.0.1", "127.0.0.2"}


@pytest.mark.parametrize(("handler", "text"), FAILING)
async def test_the_error_names_every_failing_server(internet: Internet, handler: Handler, text: str) -> None:
    for server in (first_server(internet), second_server(internet)):
        server.handler = handler
    for error in errors_with(await probe(internet, timeout_seconds=1.0), UNANSWERED):
        assert "lookup of" in error
        assert f"ns1.example.com (127.0.0.1:{internet.port}): {text}" in error
        assert f"ns2.example.com (127.0.0.2:{internet.port}): {text}" in error


async def test_a_response_from_a_cache_is_rejected(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    for server in (first_server(internet), second_server(internet)):
        server.handler = modified(internet.authority, without_authority)
    assert all("is not authoritative" in error for error in errors_with(await probe(internet), UNANSWERED))


async def test_an_unresponsive_server_is_skipped_after_two_failures(internet: Internet) -> None:
    for server in (first_server(internet), second_server(internet)):
        server.handler = no_reply
    errors_with(await probe(internet, timeout_seconds=0.6, concurrency=2), UNANSWERED)
    assert len({received.query.id for received in internet.queries}) <= 2 * 2


async def test_a_lost_query_is_retransmitted(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    await internet.delegate(NAME, "127.0.0.1")
    seen: set[int] = set()

    def lose_first_packet(received: ReceivedQuery) -> Reply:
        lost = received.query.id not in seen
        seen.add(received.query.id)
        return None if lost else internet.authority(received)

    first_server(internet).handler = lose_first_packet
    assert not faults(await probe(internet, timeout_seconds=1.5))


async def test_the_deadline_holds_when_all_servers_are_unresponsive(internet: Internet) -> None:
    for server in (first_server(internet), second_server(internet)):
        server.handler = no_reply
    began = monotonic()
    found = await probe(internet, timeout_seconds=60.0, deadline_seconds=0.3)
    assert monotonic() - began < 5
    assert all("longer than the 0.3 s allowed per domain" in error for error in errors_with(found, UNANSWERED))


async def test_findings_before_the_deadline_are_kept(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))

    def without_mx(received: ReceivedQuery) -> Reply:
        return None if received.rdtype is RdataType.MX else internet.authority(received)

    for server in (first_server(internet), second_server(internet)):
        server.handler = without_mx
    found = faults(await probe(internet, timeout_seconds=1.5, deadline_seconds=2.9))
    assert set(found) == {"mx"}
    assert "longer than the 2.9 s" in found["mx"][1]
    assert "no response within 1.5 s" in found["mx"][1]


async def test_a_truncated_response_is_repeated_over_tcp(internet: Internet) -> None:
    def truncate(received: ReceivedQuery, response: dns.message.Message) -> Reply:
        if not received.tcp:
            response.answer.clear()
            response.flags |= dns.flags.TC
        return response

    internet.publish(NAME, zone(RECORDS))
    first_server(internet).handler = second_server(internet).handler = modified(internet.authority, truncate)
    assert not faults(await probe(internet))
    assert sum(received.tcp for received in internet.queries) == len(RECORDS)


async def test_a_response_truncated_within_a_record_is_repeated_over_tcp(internet: Internet) -> None:
    def cut_record(received: ReceivedQuery, response: dns.message.Message) -> Reply:
        if received.tcp:
            return response
        response.flags |= dns.flags.TC
        return response.to_wire()[:-20]

    internet.publish(NAME, zone(RECORDS))
    first_server(internet).handler = second_server(internet).handler = modified(internet.authority, cut_record)
    assert not faults(await probe(internet))


@pytest.mark.parametrize(
    ("over_tcp", "text"),
    [
        (b"", "closed the TCP connection without a response"),
        (b"junk", "sent an invalid or truncated response over TCP"),
        (None, "no response within 1 s over TCP"),
    ],
)
async def test_a_failure_over_tcp_is_reported(internet: Internet, over_tcp: bytes | None, text: str) -> None:
    def handler(received: ReceivedQuery) -> Reply:
        if received.tcp:
            return over_tcp
        response = received.response
        response.flags |= dns.flags.TC | dns.flags.AA
        return response

    first_server(internet).handler = second_server(internet).handler = handler
    assert all(text in error for error in errors_with(await probe(internet, timeout_seconds=1.0), UNANSWERED))


async def test_a_response_truncated_over_tcp_is_rejected(internet: Internet) -> None:
    def handler(received: ReceivedQuery) -> Reply:
        response = received.response
        response.flags |= dns.flags.TC | dns.flags.AA
        return response.to_wire()

    first_server(internet).handler = second_server(internet).handler = handler
    assert all(
        "sent an invalid or truncated response over TCP" in error
        for error in errors_with(await probe(internet), UNANSWERED)
    )


async def test_a_server_without_edns_is_queried_without_it(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))

    def without_edns(received: ReceivedQuery, response: dns.message.Message) -> Reply:
        if received.query.edns < 0:
            return response
        rejection = received.response
        rejection.set_rcode(dns.rcode.FORMERR)
        rejection.use_edns(False)
        return rejection

    first_server(internet).handler = second_server(internet).handler = modified(internet.authority, without_edns)
    assert not faults(await probe(internet))


async def test_a_closed_port_fails_immediately(internet: Internet) -> None:
    internet.set_resolver_records(f"ns1.{NAME}", RdataType.A, "127.0.0.99")
    internet.set_resolver_records(f"ns2.{NAME}", RdataType.A, "127.0.0.98")
    began = monotonic()
    for error in errors_with(await probe(internet), UNANSWERED):
        assert "is unreachable (Connection refused)" in error
    assert monotonic() - began < 5


@pytest.mark.parametrize(
    ("handler", "timeout_seconds", "text"),
    [(rcode_reply(dns.rcode.SERVFAIL), 30.0, "returned SERVFAIL"), (no_reply, 0.3, "no response within 0.3 s")],
)
async def test_a_resolver_failure_does_not_reveal_its_address(
    internet: Internet, handler: Handler, timeout_seconds: float, text: str
) -> None:
    internet.resolver.handler = handler
    for error in errors_with(await probe(internet, timeout_seconds=timeout_seconds), UNANSWERED):
        assert f"the lookup of its name servers failed: resolver 1: {text}" in error
        assert internet.resolver.address not in error


async def test_the_next_resolver_is_queried_after_a_failure(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    resolvers = (f"127.0.0.97:{internet.port}", f"{internet.resolver.address}:{internet.port}")
    assert not faults(await probe(internet, resolvers=resolvers))


def test_lookups_work_under_uvloop() -> None:
    async def run() -> None:
        async with AsyncExitStack() as cleanups:
            internet = Internet(cleanups)
            await internet.open()
            await internet.delegate(NAME, "127.0.0.99", "127.0.0.1", "::1")
            internet.servers["127.0.0.99"].handler = rcode_reply(dns.rcode.REFUSED)
            other_values = [f'TXT "{number:0100}"' for number in range(200)]
            token = f'TXT "{TOKEN_RECORD.dns_value}"'
            internet.publish(NAME, zone(RECORDS, {"domain_validation": [*other_values, token]}))
            assert not faults(await probe(internet))
            internet.set_resolver_records(f"ns1.{NAME}", RdataType.A, "127.0.0.98")
            assert not faults(await probe(internet))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_one_prober_validates_several_domains_concurrently(internet: Internet) -> None:
    domains = [make_domain(f"d{number}.test") for number in range(5)]
    for domain in domains:
        await internet.delegate(domain.name, "127.0.0.1")
        internet.publish(domain.name, zone(records_of(domain)))
    prober = DnsProber(dns_config(internet))
    findings = await asyncio.gather(*(prober.probe(domain, records_of(domain)) for domain in [*domains, DOMAIN]))
    statuses = [{finding.status for finding in found.values()} for found in findings]
    assert statuses == [{VALID}] * 5 + [{UNANSWERED}]  # example.com is delegated to servers without the zone
