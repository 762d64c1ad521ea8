"""Limits shared by all validations of a process: rates and circuit breakers per zone and server address."""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, replace

import dns.name
import dns.rcode
import dns.rrset
import pytest

from postroomd.dns import DnsProber
from postroomd.dns.limits import MAX_CIRCUITS, CircuitBreaker, QueryLimits, RateLimit
from postroomd.domain.model import Domain
from tests.support.dns_probe import DOMAIN, RECORDS, UNANSWERED, VALID
from tests.support.dns_records import NAME, dns_config, make_domain, records_of, zone
from tests.support.dns_server import Internet, ReceivedQuery, Reply, no_reply, rcode_reply


@dataclass
class FakeClock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def domains_of_one_organization(*names: str) -> list[Domain]:
    return [replace(make_domain(name), organization_id=DOMAIN.id) for name in names]


async def test_a_query_that_would_wait_too_long_takes_no_token() -> None:
    clock = FakeClock()
    limit = RateLimit(1, 1, clock)
    assert await limit.take("a", "one", 0.5)
    assert not await limit.take("a", "one", 0.5)
    clock.now = 1
    assert await limit.take("a", "one", 0.5)


async def take(limit: RateLimit, organization_id: str, taken: list[str], max_wait: float = 60) -> bool:
    took = await limit.take("a", organization_id, max_wait)
    taken.append(organization_id if took else f"not {organization_id}")
    return took


async def test_organizations_take_turns_for_the_tokens_of_a_key() -> None:
    limit = RateLimit(1_000, 1)
    taken: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        for organization_id in ["many"] * 6 + ["few"] * 2:
            tasks.create_task(take(limit, organization_id, taken))
    assert taken == ["many", "many", "few", "many", "few", "many", "many", "many"]


async def test_an_organization_that_waits_for_long_is_rejected_and_others_are_not() -> None:
    limit = RateLimit(1, 1, FakeClock())
    taken: list[str] = []
    waiting = [
        asyncio.create_task(take(limit, organization_id, taken, max_wait=4.5))
        for organization_id in ["many"] * 9 + ["few"]
    ]
    await asyncio.sleep(0)
    assert taken == ["many", *["not many"] * 4]
    assert not waiting[-1].done()
    for task in waiting:
        task.cancel()


async def test_nobody_overtakes_those_who_wait() -> None:
    clock = FakeClock()
    limit = RateLimit(100, 1, clock)
    taken: list[str] = []
    assert limit.try_take("a")
    waiting = asyncio.create_task(take(limit, "one", taken))
    await asyncio.sleep(0)
    clock.now = 10
    assert not limit.try_take("a")
    assert await waiting
    assert limit.try_take("b")


async def test_a_canceled_query_takes_no_token() -> None:
    clock = FakeClock()
    limit = RateLimit(100, 1, clock)
    taken: list[str] = []
    assert limit.try_take("a")
    canceled, waiting = (asyncio.create_task(take(limit, "one", taken)) for _ in range(2))
    await asyncio.sleep(0)
    canceled.cancel()
    clock.now = 0.01
    assert await waiting
    assert canceled.cancelled()
    assert taken == ["one"]


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
    for key in range(MAX_CIRCUITS + 1):
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
    await prober.probe(make_domain(), RECORDS)
    assert len(internet.queries) > count  # the circuit of another organization


async def test_an_unresponsive_address_is_skipped_for_all_zones_of_an_organization(internet: Internet) -> None:
    prober = DnsProber(dns_config(internet, timeout_seconds=0.5))
    domains = domains_of_one_organization(*(f"d{number}.test" for number in range(4)))
    for domain in domains:
        await internet.delegate(domain.name, "127.0.0.9")
    internet.servers["127.0.0.9"].handler = no_reply
    for domain in domains[:3]:
        await prober.probe(domain, records_of(domain))
    count = len(internet.queries)
    findings = await prober.probe(domains[3], records_of(domains[3]))
    assert len(internet.queries) == count <= 5 * 2 + 2
    assert "was skipped after repeated failures" in (findings["mx"].error or "")


async def test_a_server_that_is_silent_about_names_of_one_organization_serves_others(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant may delegate any name to the server of another tenant, which may not answer for it."""
    limits = QueryLimits()
    monkeypatch.setattr("postroomd.dns.prober.QueryLimits", lambda: limits)
    hasty, patient = DnsProber(dns_config(internet, timeout_seconds=0.2)), DnsProber(dns_config(internet))
    made_up = domains_of_one_organization(*(f"silent{number}.test" for number in range(4)))
    for domain in [*made_up, DOMAIN]:
        await internet.delegate(domain.name, "127.0.0.9")
    internet.publish(NAME, zone(RECORDS))
    internet.servers["127.0.0.9"].handler = lambda received: (
        no_reply(received) if "silent" in received.name.to_text() else internet.authority(received)
    )
    for domain in made_up:
        await hasty.probe(domain, records_of(domain))
    findings = await patient.probe(DOMAIN, RECORDS)
    assert {finding.status for finding in findings.values()} == {VALID}


async def test_names_below_a_foreign_zone_share_its_rate_limit(internet: Internet) -> None:
    await internet.delegate("victim.test", "127.0.0.9")
    internet.publish("victim.test", "")
    prober = DnsProber(dns_config(internet, deadline_seconds=0.5))
    domains = [make_domain(f"d{number}.victim.test") for number in range(20)]
    async with asyncio.timeout(10):
        findings = await asyncio.gather(*(prober.probe(domain, records_of(domain)) for domain in domains))
    assert len(internet.queries) <= 100 + 20 * 2  # the burst, and the rate for at most two seconds
    assert UNANSWERED in {finding.status for found in findings for finding in found.values()}


class RecordedLimit(RateLimit):
    def __init__(self) -> None:
        super().__init__(1_000, 1)
        self.organization_ids: list[str] = []

    async def take(self, key: Hashable, organization_id: str, max_wait: float = 60) -> bool:
        self.organization_ids.append(organization_id)
        return await super().take(key, organization_id, max_wait)


async def test_the_queries_of_a_validation_wait_for_the_turns_of_its_organization(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    internet.publish(NAME, zone(RECORDS))
    limits = QueryLimits(zone_rate=RecordedLimit(), server_rate=RecordedLimit())
    monkeypatch.setattr("postroomd.dns.prober.QueryLimits", lambda: limits)
    findings = await DnsProber(dns_config(internet)).probe(DOMAIN, RECORDS)
    assert {finding.status for finding in findings.values()} == {VALID}
    for limit in (limits.zone_rate, limits.server_rate):
        assert isinstance(limit, RecordedLimit)
        assert limit.organization_ids == [DOMAIN.organization_id] * len(internet.queries)


@pytest.mark.parametrize("number", [3])
async def test_several_domains_of_one_zone_are_validated_within_the_burst(internet: Internet, number: int) -> None:
    prober = DnsProber(dns_config(internet))
    domains = [make_domain(f"d{index}.{NAME}") for index in range(number)]
    internet.publish(NAME, "".join(zone(records_of(domain)) for domain in domains))
    findings = await asyncio.gather(*(prober.probe(domain, records_of(domain)) for domain in domains))
    assert {finding.status for found in findings for finding in found.values()} == {VALID}


async def test_made_up_name_servers_of_a_foreign_domain_share_its_rate_limit(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver asks the servers of that domain about each of them."""

    def refer(received: ReceivedQuery) -> Reply:
        response = received.response
        hosts = [f"ns{number}.{received.name.labels[0].decode()}.victim.test." for number in range(4)]
        response.authority.append(dns.rrset.from_text(received.name, 60, "IN", "NS", *hosts))
        return response

    limits = QueryLimits(resolver_rate=RateLimit(0.001, 6))
    monkeypatch.setattr("postroomd.dns.prober.QueryLimits", lambda: limits)
    for server in internet.servers.values():
        server.handler = refer
    findings = await DnsProber(dns_config(internet)).probe(DOMAIN, RECORDS)
    about = [str(received.name).endswith(".victim.test.") for received in internet.resolver.queries]
    assert about.count(True) == 6
    assert "too many queries about victim.test at present: try again in a minute" in (findings["caldav"].error or "")
