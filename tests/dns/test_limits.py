"""Limits shared by all validations of a process: rates and circuit breakers per zone and server address."""

import asyncio
from dataclasses import dataclass

import dns.rcode
import pytest

from postroomd.dns import DnsProber
from postroomd.dns.limits import MAX_KEYS, CircuitBreaker, RateLimit
from tests.support.dns_probe import DOMAIN, RECORDS, UNANSWERED, VALID
from tests.support.dns_records import NAME, dns_config, make_domain, records_of, zone
from tests.support.dns_server import Internet, no_reply, rcode_reply


@dataclass
class FakeClock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_available_at_once_and_then_the_rate() -> None:
    clock = FakeClock()
    limit = RateLimit(2, 3, clock)
    assert [limit.reserve("a") for _ in range(5)] == [0, 0, 0, 0.5, 1]
    assert limit.reserve("b") == 0
    clock.now = 100
    assert [limit.reserve("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_query_that_would_wait_too_long_takes_no_token() -> None:
    clock = FakeClock()
    limit = RateLimit(1, 1, clock)
    assert [limit.reserve("a", 1) for _ in range(4)] == [0, 1, None, None]
    clock.now = 1
    assert limit.reserve("a", 1) == 1


def test_rate_limits_use_bounded_memory() -> None:
    clock = FakeClock()
    limit = RateLimit(1, 1, clock)
    assert limit.reserve("first") == 0
    for key in range(MAX_KEYS):
        limit.reserve(key)
    assert limit.reserve(MAX_KEYS - 1) == 1
    assert limit.reserve("first") == 0  # evicted as the oldest


def test_a_circuit_opens_after_consecutive_failures_and_closes_on_success() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(2, 30, clock)
    breaker.failed("a")
    assert not breaker.is_open("a")
    breaker.succeeded("a")
    breaker.failed("a")
    assert not breaker.is_open("a")
    breaker.failed("a")
    assert breaker.is_open("a")
    assert not breaker.is_open("b")
    clock.now = 30
    assert not breaker.is_open("a")
    breaker.failed("a")  # one failure after the open period is enough
    assert breaker.is_open("a")
    clock.now = 60
    breaker.succeeded("a")
    breaker.failed("a")
    assert not breaker.is_open("a")


def test_circuits_use_bounded_memory() -> None:
    breaker = CircuitBreaker(1, 30, FakeClock())
    for key in range(MAX_KEYS + 1):
        breaker.failed(key)
    assert not breaker.is_open(0)
    assert breaker.is_open(1)


async def test_an_unresponsive_zone_is_skipped_after_three_validations(internet: Internet) -> None:
    for server in internet.servers.values():
        server.handler = rcode_reply(dns.rcode.REFUSED)
    prober = DnsProber(dns_config(internet))
    for _ in range(3):
        await prober.probe(DOMAIN, RECORDS)
    count = len(internet.queries)
    findings = await prober.probe(DOMAIN, RECORDS)
    assert len(internet.queries) == count
    assert {finding.status for finding in findings.values()} == {UNANSWERED}
    assert "the servers of example.com failed repeatedly: try again in a minute" in (findings["mx"].error or "")


async def test_an_unresponsive_address_is_skipped_for_all_zones(internet: Internet) -> None:
    prober = DnsProber(dns_config(internet, timeout_seconds=0.2))
    domains = [make_domain(f"d{number}.test") for number in range(4)]
    for domain in domains:
        await internet.delegate(domain.name, "127.0.0.9")
    internet.servers["127.0.0.9"].handler = no_reply
    for domain in domains[:3]:
        await prober.probe(domain, records_of(domain))
    count = len(internet.queries)
    findings = await prober.probe(domains[3], records_of(domains[3]))
    assert len(internet.queries) == count <= 5 * 2 + 2
    assert "was skipped after repeated failures" in (findings["mx"].error or "")


async def test_names_below_a_foreign_zone_share_its_rate_limit(internet: Internet) -> None:
    await internet.delegate("victim.test", "127.0.0.9")
    internet.publish("victim.test", "")
    prober = DnsProber(dns_config(internet, deadline_seconds=0.5))
    domains = [make_domain(f"d{number}.victim.test") for number in range(20)]
    async with asyncio.timeout(10):
        findings = await asyncio.gather(*(prober.probe(domain, records_of(domain)) for domain in domains))
    assert len(internet.queries) <= 100 + 20 * 2  # the burst, and the rate for at most two seconds
    assert UNANSWERED in {finding.status for found in findings for finding in found.values()}


@pytest.mark.parametrize("number", [3])
async def test_several_domains_of_one_zone_are_validated_within_the_burst(internet: Internet, number: int) -> None:
    prober = DnsProber(dns_config(internet))
    domains = [make_domain(f"d{index}.{NAME}") for index in range(number)]
    internet.publish(NAME, "".join(zone(records_of(domain)) for domain in domains))
    findings = await asyncio.gather(*(prober.probe(domain, records_of(domain)) for domain in domains))
    assert {finding.status for found in findings for finding in found.values()} == {VALID}
