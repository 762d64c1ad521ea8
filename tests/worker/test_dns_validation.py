"""Validation end to end: the DNS decides, through the prober, the worker and the database, on a domain's status."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from postroomd.dns import DnsProber
from postroomd.domain.diagnosis import Condition
from postroomd.domain.model import DomainStatus, RecordStatus
from postroomd.domain.records import NAME_OWNED_ELSEWHERE
from postroomd.runtime.doctor.domains import look_up_domains
from postroomd.storage.opening import open_repository
from postroomd.worker.steps import Worker
from tests.support.databases import NewDatabase
from tests.support.dns_environment import Environment
from tests.support.dns_records import NAME, dns_config, zone
from tests.support.dns_server import Internet, no_reply
from tests.support.lifecycle import FREE


@pytest.fixture
def database(new_sqlite_database: NewDatabase) -> str:
    """A migrated database, created outside of the event loop, since the migration runs its own."""
    return new_sqlite_database()


@pytest.fixture
async def environment(internet: Internet, database: str) -> AsyncIterator[Environment]:
    async with AsyncExitStack() as cleanups:
        repository = await open_repository(database)
        cleanups.push_async_callback(repository.close)
        yield Environment(repository, internet)


async def test_a_domain_with_published_records_becomes_ready(environment: Environment) -> None:
    registered = await environment.register("T0KEN")
    environment.internet.publish(NAME, zone(registered.records))
    await environment.run_worker()
    assert await registered.status() is DomainStatus.WAITING_VALIDATION
    assert not environment.internet.queries

    assert await registered.request_validation() is DomainStatus.VALIDATING
    await environment.run_worker()
    assert await registered.status() is DomainStatus.READY
    assert set((await registered.results()).values()) == {(RecordStatus.VALID, None)}


async def test_each_wrong_record_has_an_error_until_it_is_corrected(environment: Environment) -> None:
    registered = await environment.register("T0KEN")
    environment.internet.publish(
        NAME, zone(registered.records, {"mx": ["MX 10 mx.else.test."], "dkim": [], "imap": []})
    )
    await registered.request_validation()
    await environment.run_worker()
    assert await registered.status() is DomainStatus.WAITING_VALIDATION
    results = await registered.results()
    assert results["mx"][0] is RecordStatus.INVALID
    assert (
        results["mx"][1] == 'no record has the expected host; found "10 mx.else.test."; expected "10 mx.mail.example."'
    )
    assert results["dkim"][0] is results["imap"][0] is RecordStatus.NOT_FOUND
    assert results["domain_validation"] == (RecordStatus.VALID, None)

    environment.internet.publish(NAME, zone(registered.records, {"mx": ["MX 10 mx.else.test."]}))
    await registered.request_validation()
    await environment.run_worker()
    assert await registered.status() is DomainStatus.VALIDATION_FAILED

    environment.internet.publish(NAME, zone(registered.records, {"imap": []}))  # a recommended record
    await registered.request_validation()
    await environment.run_worker()
    assert await registered.status() is DomainStatus.READY
    results = await registered.results()
    assert results["mx"] == results["dkim"] == (RecordStatus.VALID, None)
    assert results["imap"][0] is RecordStatus.NOT_FOUND


async def test_unresponsive_name_servers_keep_a_domain_waiting_with_an_error(environment: Environment) -> None:
    registered = await environment.register("T0KEN")
    for server in environment.internet.servers.values():
        server.handler = no_reply
    prober = DnsProber(dns_config(environment.internet, timeout_seconds=0.8))
    environment.worker = Worker(work=environment.repository.work, prober=prober, policy=FREE)
    await registered.request_validation()
    await environment.run_worker()
    assert await registered.status() is DomainStatus.WAITING_VALIDATION
    status, error = (await registered.results())["mx"]
    assert status is RecordStatus.UNKNOWN_STATUS
    assert error is not None
    assert error.startswith("lookup of MX example.com failed: ns")
    assert f"ns1.example.com (127.0.0.1:{environment.internet.port}): no response within 0.8 s" in error


async def test_of_two_registrations_the_one_with_the_published_token_is_ready(environment: Environment) -> None:
    loser, winner = await environment.register("1057"), await environment.register("T0KEN")
    environment.internet.publish(NAME, zone(winner.records))
    await loser.request_validation()
    await winner.request_validation()
    await environment.run_worker()
    assert await winner.status() is DomainStatus.READY
    assert await loser.status() is DomainStatus.VALIDATION_FAILED
    status, error = (await loser.results())["domain_validation"]
    assert status is RecordStatus.INVALID
    assert error == (
        "the published validation token belongs to another registration of this name;"
        ' found "postroom-validation=T0KEN"; expected "postroom-validation=1057"'
    )
    assert (await loser.results())["mx"] == (RecordStatus.VALID, None)


async def test_a_name_with_an_owner_can_not_be_validated_by_another(environment: Environment) -> None:
    owner, late = await environment.register("T0KEN"), await environment.register("1A7E")
    both = zone(owner.records) + zone(late.records, {kind: [] for kind in late.records if kind != "domain_validation"})
    environment.internet.publish(NAME, both)
    await owner.request_validation()
    await environment.run_worker()
    await late.request_validation()
    await environment.run_worker()
    assert await owner.status() is DomainStatus.READY
    assert await late.status() is DomainStatus.VALIDATION_FAILED
    assert (await late.results())["domain_validation"] == (RecordStatus.INVALID, NAME_OWNED_ELSEWHERE)


async def test_doctor_looks_the_records_of_ready_domains_up_without_storing_them(environment: Environment) -> None:
    registered = await environment.register("T0KEN")
    environment.internet.publish(NAME, zone(registered.records))
    await registered.request_validation()
    await environment.run_worker()
    prober, seen = DnsProber(dns_config(environment.internet)), list[int]()
    (lookups,) = await look_up_domains(environment.repository, prober, seen.append)
    assert (lookups.condition, lookups.detail) == (
        Condition.OK,
        "1 ready domains were looked up now, 0 have faulty required records",
    )
    environment.internet.publish(NAME, zone(registered.records, {"mx": ["MX 10 mx.else.test."], "imap": []}))
    _, faulty = await look_up_domains(environment.repository, prober, seen.append)
    assert (faulty.check, faulty.condition) == (f"dns of {NAME}", Condition.WARNING)
    assert faulty.detail.startswith("mx is invalid (no record has the expected host")
    assert "imap" not in faulty.detail  # recommended
    assert faulty.remedy
    assert seen == [1, 1]
    assert set((await registered.results()).values()) == {(RecordStatus.VALID, None)}
    for server in environment.internet.servers.values():
        server.handler = no_reply
    _, unanswered = await look_up_domains(environment.repository, prober, seen.append)
    assert "mx is not answered (" in unanswered.detail
