"""Servers that fail: the next one is asked, and where none is left the error says which failed how."""

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
from tests.support.dns_probing import DOMAIN, INVALID, RECORDS, VALID, faults, first, only, probe, second
from tests.support.dns_records import NAME, a_domain, config, records_of, zone
from tests.support.dns_server import Answering, Asked, Internet, Reply, Server, changed, failing, silent

TOKEN_RECORD = RECORDS["domain_validation"]


def without_authority(asked: Asked, response: dns.message.Message) -> Reply:
    del asked
    response.flags &= ~dns.flags.AA
    return response


def referring_upward(asked: Asked) -> Reply:
    response = asked.response
    response.authority.append(dns.rrset.from_text(dns.name.root, 60, "IN", "NS", "a.root-servers.test."))
    return response


def referring_to_itself(asked: Asked) -> Reply:
    response = asked.response
    response.authority.append(dns.rrset.from_text(f"{NAME}.", 60, "IN", "NS", f"ns1.{NAME}."))
    return response


FAILING = [
    (failing(dns.rcode.SERVFAIL), "answers SERVFAIL"),
    (failing(dns.rcode.REFUSED), "answers REFUSED"),
    (failing(dns.rcode.FORMERR), "answers FORMERR"),
    (referring_upward, "is not authoritative for example.com (a lame delegation)"),
    (referring_to_itself, "is not authoritative for example.com (a lame delegation)"),
    (silent, "no answer within 1 s"),
]


@pytest.mark.parametrize(("answering", "_says"), FAILING)
async def test_the_next_server_is_asked_where_one_fails(internet: Internet, answering: Answering, _says: str) -> None:
    internet.publish(NAME, zone(RECORDS))
    asked_first: list[str] = []  # which one is: resolvers answer in any order

    def one_of(server: Server, asked: Asked) -> Reply:
        asked_first.append(server.address)
        return answering(asked) if server.address == asked_first[0] else internet.authority(asked)

    for server in (first(internet), second(internet)):
        server.answering = partial(one_of, server)
    assert not faults(await probe(internet, timeout_seconds=1.0))
    assert set(asked_first) == {"127.0.0.1", "127.0.0.2"}


@pytest.mark.parametrize(("answering", "says"), FAILING)
async def test_where_all_fail_the_errors_say_which_server_failed_how(
    internet: Internet, answering: Answering, says: str
) -> None:
    for server in (first(internet), second(internet)):
        server.answering = answering
    for error in only(await probe(internet, timeout_seconds=1.0), INVALID):
        assert "the look-up of" in error
        assert f"ns1.example.com (127.0.0.1:{internet.port}): {says}" in error
        assert f"ns2.example.com (127.0.0.2:{internet.port}): {says}" in error


async def test_an_answer_from_a_cache_does_not_count(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    for server in (first(internet), second(internet)):
        server.answering = changed(internet.authority, without_authority)
    assert all("is not authoritative" in error for error in only(await probe(internet), INVALID))


async def test_a_server_that_is_silent_is_soon_asked_no_more(internet: Internet) -> None:
    for server in (first(internet), second(internet)):
        server.answering = silent
    only(await probe(internet, timeout_seconds=0.6, concurrency=2), INVALID)
    assert len({asked.query.id for asked in internet.asked}) <= 2 * (3 + 1)


async def test_a_lost_packet_is_sent_again(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    await internet.delegate(NAME, "127.0.0.1")
    seen: set[int] = set()

    def losing(asked: Asked) -> Reply:
        lost = asked.query.id not in seen
        seen.add(asked.query.id)
        return None if lost else internet.authority(asked)

    first(internet).answering = losing
    assert not faults(await probe(internet, timeout_seconds=1.5))


async def test_the_deadline_holds_where_all_are_silent(internet: Internet) -> None:
    for server in (first(internet), second(internet)):
        server.answering = silent
    began = monotonic()
    found = await probe(internet, timeout_seconds=60.0, deadline_seconds=0.3)
    assert monotonic() - began < 5
    assert all("longer than the 0.3 s that a domain may take" in error for error in only(found, INVALID))


async def test_what_was_found_before_the_deadline_is_kept_and_the_trouble_told(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))

    def half_silent(asked: Asked) -> Reply:
        return None if asked.rdtype is RdataType.MX else internet.authority(asked)

    for server in (first(internet), second(internet)):
        server.answering = half_silent
    found = faults(await probe(internet, timeout_seconds=1.0, deadline_seconds=1.6))
    assert set(found) == {"mx"}
    assert "longer than the 1.6 s" in found["mx"][1]
    assert "no answer within 1 s" in found["mx"][1]


async def test_a_truncated_answer_is_asked_for_over_tcp(internet: Internet) -> None:
    def truncate(asked: Asked, response: dns.message.Message) -> Reply:
        if not asked.tcp:
            response.answer.clear()
            response.flags |= dns.flags.TC
        return response

    internet.publish(NAME, zone(RECORDS))
    first(internet).answering = second(internet).answering = changed(internet.authority, truncate)
    assert not faults(await probe(internet))
    assert sum(asked.tcp for asked in internet.asked) == len(RECORDS)


async def test_a_truncated_answer_that_ends_within_a_record(internet: Internet) -> None:
    def break_off(asked: Asked, response: dns.message.Message) -> Reply:
        if asked.tcp:
            return response
        response.flags |= dns.flags.TC
        return response.to_wire()[:-20]

    internet.publish(NAME, zone(RECORDS))
    first(internet).answering = second(internet).answering = changed(internet.authority, break_off)
    assert not faults(await probe(internet))


@pytest.mark.parametrize(
    ("over_tcp", "says"),
    [
        (b"", "closed the TCP connection without an answer"),
        (b"junk", "sends what is no answer to the query"),
        (None, "no answer within 1 s over TCP"),
    ],
)
async def test_a_server_that_truncates_and_then_fails_over_tcp(
    internet: Internet, over_tcp: bytes | None, says: str
) -> None:
    def answering(asked: Asked) -> Reply:
        if asked.tcp:
            return over_tcp
        response = asked.response
        response.flags |= dns.flags.TC | dns.flags.AA
        return response

    first(internet).answering = second(internet).answering = answering
    assert all(says in error for error in only(await probe(internet, timeout_seconds=1.0), INVALID))


async def test_an_answer_that_is_truncated_over_tcp_too_does_not_count(internet: Internet) -> None:
    def answering(asked: Asked) -> Reply:
        response = asked.response
        response.flags |= dns.flags.TC | dns.flags.AA
        return response.to_wire()

    first(internet).answering = second(internet).answering = answering
    assert all("only a part of one, over TCP" in error for error in only(await probe(internet), INVALID))


async def test_a_server_from_before_edns_is_asked_without(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))

    def old(asked: Asked, response: dns.message.Message) -> Reply:
        if asked.query.edns < 0:
            return response
        refusal = asked.response
        refusal.set_rcode(dns.rcode.FORMERR)
        refusal.use_edns(False)
        return refusal

    first(internet).answering = second(internet).answering = changed(internet.authority, old)
    assert not faults(await probe(internet))


async def test_a_closed_port_is_told_at_once(internet: Internet) -> None:
    internet.tell(f"ns1.{NAME}", RdataType.A, "127.0.0.99")
    internet.tell(f"ns2.{NAME}", RdataType.A, "127.0.0.98")
    began = monotonic()
    for error in only(await probe(internet), INVALID):
        assert "can't be reached (Connection refused)" in error
    assert monotonic() - began < 5


@pytest.mark.parametrize(
    ("answering", "says"),
    [(failing(dns.rcode.SERVFAIL), "answers SERVFAIL"), (silent, "no answer within 0.3 s")],
)
async def test_a_resolver_that_fails_is_told_without_its_address(
    internet: Internet, answering: Answering, says: str
) -> None:
    internet.resolver.answering = answering
    for error in only(await probe(internet, timeout_seconds=0.3), INVALID):
        assert f"its name servers could not be found: resolver 1: {says}" in error
        assert internet.resolver.address not in error


async def test_the_next_resolver_is_asked_where_one_fails(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    resolvers = (f"127.0.0.97:{internet.port}", f"{internet.resolver.address}:{internet.port}")
    assert not faults(await probe(internet, resolvers=resolvers))


def test_the_event_loop_of_the_real_worker_serves() -> None:
    async def run() -> None:
        async with AsyncExitStack() as cleanups:
            internet = Internet(cleanups)
            await internet.open()
            await internet.delegate(NAME, "127.0.0.99", "127.0.0.1", "::1")
            internet.servers["127.0.0.99"].answering = failing(dns.rcode.REFUSED)
            many = [f'TXT "{number:0100}"' for number in range(200)]
            token = f'TXT "{TOKEN_RECORD.dns_value}"'
            internet.publish(NAME, zone(RECORDS, {"domain_validation": [*many, token]}))
            assert not faults(await probe(internet))
            internet.tell(f"ns1.{NAME}", RdataType.A, "127.0.0.98")
            assert not faults(await probe(internet))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_one_prober_looks_at_several_domains_at_once(internet: Internet) -> None:
    domains = [a_domain(f"d{number}.test") for number in range(5)]
    for domain in domains:
        await internet.delegate(domain.name, "127.0.0.1")
        internet.publish(domain.name, zone(records_of(domain)))
    prober = DnsProber(config(internet))
    all_found = await asyncio.gather(*(prober.probe(domain, records_of(domain)) for domain in [*domains, DOMAIN]))
    statuses = [{finding.status for finding in found.values()} for found in all_found]
    assert statuses == [{VALID}] * 5 + [{INVALID}]  # example.com is delegated to servers that don't have it
