"""The whole way: what is published in the DNS decides, through the worker and the database, where a domain stands."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest

from postroomd.dns import DnsProber
from postroomd.domain.context import CallContext
from postroomd.domain.domains import begin_validation
from postroomd.domain.model import Domain, DomainRecord, DomainStatus, RecordStatus
from postroomd.domain.records import NAME_IS_PROVED_ELSEWHERE
from postroomd.domain.tenancy import Organization, Project
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.domains import DomainSecrets
from postroomd.storage.protocols.repository import Repository
from postroomd.worker.steps import Worker
from tests.conftest import NewDatabase
from tests.support.dns_records import NAME, NOW, dns_config, make_domain, records_of, zone
from tests.support.dns_server import Internet, no_reply
from tests.support.factories import tenant_context
from tests.support.lifecycle import FREE


class House:
    """A repository, and a worker with eyes on the small internet."""

    def __init__(self, repository: Repository, internet: Internet) -> None:
        self.repository = repository
        self.internet = internet
        prober = DnsProber(dns_config(internet))
        self.worker = Worker(work=repository.work, prober=prober, policy=FREE)
        self.now = NOW

    async def register(self, token: str, name: str = NAME) -> "Registered":
        """A domain of a new organization."""
        organization = Organization(id=str(uuid4()), created_at=NOW)
        project = Project(
            id=str(uuid4()),
            organization_id=organization.id,
            name="a project",
            mailbox_quota=10,
            mailbox_count=0,
            created_at=NOW,
        )
        await self.repository.tenancy.create_organization(organization, project)
        made = make_domain(name, DomainStatus.WAITING_VALIDATION)
        domain = Domain(
            id=made.id,
            organization_id=organization.id,
            project_id=project.id,
            name=made.name,
            status=made.status,
            mailbox_total_count=0,
            created_at=NOW,
            updated_at=NOW,
        )
        records = records_of(domain, token)
        context = tenant_context(organization_id=organization.id)
        secrets = DomainSecrets(token, "post", "a private key")
        await self.repository.domains.create(context, domain, list(records.values()), secrets)
        return Registered(self, domain.id, context, records)

    async def work(self) -> None:
        self.now += timedelta(minutes=1)
        await self.worker.run_once(self.now)


class Registered:
    """A domain, as its organization sees it."""

    def __init__(self, house: House, domain_id: str, context: CallContext, records: dict[str, DomainRecord]) -> None:
        self._house = house
        self._domain_id = domain_id
        self._context = context
        self.records = records

    async def ask_for_validation(self) -> DomainStatus:
        rule = partial(begin_validation, now=self._house.now)
        domains = self._house.repository.domains
        return (await domains.begin_validation(self._context, self._domain_id, rule, self._house.now)).status

    async def status(self) -> DomainStatus:
        return (await self._house.repository.domains.get(self._context, self._domain_id)).status

    async def seen(self) -> dict[str, tuple[RecordStatus, str | None]]:
        records = await self._house.repository.domains.records(self._context, self._domain_id)
        return {kind: (record.status, record.error) for kind, record in records.items()}


@pytest.fixture
def database(new_sqlite_database: NewDatabase) -> str:
    """A migrated database, made outside the event loop: the migration runs one of its own."""
    return new_sqlite_database()


@pytest.fixture
async def house(internet: Internet, database: str) -> AsyncIterator[House]:
    async with AsyncExitStack() as cleanups:
        repository = await open_repository(database)
        cleanups.push_async_callback(repository.close)
        yield House(repository, internet)


async def test_a_domain_whose_records_are_published_becomes_ready(house: House) -> None:
    registered = await house.register("T0KEN")
    house.internet.publish(NAME, zone(registered.records))
    await house.work()
    assert await registered.status() is DomainStatus.WAITING_VALIDATION
    assert not house.internet.queries

    assert await registered.ask_for_validation() is DomainStatus.VALIDATING
    await house.work()
    assert await registered.status() is DomainStatus.READY
    assert set((await registered.seen()).values()) == {(RecordStatus.VALID, None)}


async def test_a_domain_reports_an_error_per_record_until_it_is_ready(house: House) -> None:
    registered = await house.register("T0KEN")
    house.internet.publish(NAME, zone(registered.records, {"mx": ["MX 10 mx.else.test."], "dkim": [], "imap": []}))
    await registered.ask_for_validation()
    await house.work()
    assert await registered.status() is DomainStatus.WAITING_VALIDATION
    seen = await registered.seen()
    assert seen["mx"][0] is RecordStatus.INVALID
    assert seen["mx"][1] == 'no record has the expected host; found "10 mx.else.test."; expected "10 mx.host.test."'
    assert seen["dkim"][0] is seen["imap"][0] is RecordStatus.NOT_FOUND
    assert seen["domain_validation"] == (RecordStatus.VALID, None)

    house.internet.publish(NAME, zone(registered.records, {"mx": ["MX 10 mx.else.test."]}))
    await registered.ask_for_validation()
    await house.work()
    assert await registered.status() is DomainStatus.VALIDATION_FAILED

    house.internet.publish(NAME, zone(registered.records, {"imap": []}))  # which is not required
    await registered.ask_for_validation()
    await house.work()
    assert await registered.status() is DomainStatus.READY
    seen = await registered.seen()
    assert seen["mx"] == seen["dkim"] == (RecordStatus.VALID, None)
    assert seen["imap"][0] is RecordStatus.NOT_FOUND


async def test_a_domain_with_unresponsive_servers_waits_and_says_why(house: House) -> None:
    registered = await house.register("T0KEN")
    for server in house.internet.servers.values():
        server.handler = no_reply
    prober = DnsProber(dns_config(house.internet, timeout_seconds=0.8))
    house.worker = Worker(work=house.repository.work, prober=prober, policy=FREE)
    await registered.ask_for_validation()
    await house.work()
    assert await registered.status() is DomainStatus.WAITING_VALIDATION
    status, error = (await registered.seen())["mx"]
    assert status is RecordStatus.UNKNOWN_STATUS
    assert error is not None
    assert error.startswith("lookup of MX example.com failed: ns")
    assert f"ns1.example.com (127.0.0.1:{house.internet.port}): no response within 0.8 s" in error


async def test_of_two_registrations_the_one_whose_token_is_published_is_ready(house: House) -> None:
    loser, winner = await house.register("1057"), await house.register("T0KEN")
    house.internet.publish(NAME, zone(winner.records))
    await loser.ask_for_validation()
    await winner.ask_for_validation()
    await house.work()
    assert await winner.status() is DomainStatus.READY
    assert await loser.status() is DomainStatus.VALIDATION_FAILED
    status, error = (await loser.seen())["domain_validation"]
    assert status is RecordStatus.INVALID
    assert error == (
        "the published validation token belongs to another registration of this name;"
        ' found "postroom-validation=T0KEN"; expected "postroom-validation=1057"'
    )
    assert (await loser.seen())["mx"] == (RecordStatus.VALID, None)


async def test_a_name_that_is_proved_is_not_proved_again_by_another(house: House) -> None:
    owner, late = await house.register("T0KEN"), await house.register("1A7E")
    both = zone(owner.records) + zone(late.records, {kind: [] for kind in late.records if kind != "domain_validation"})
    house.internet.publish(NAME, both)
    await owner.ask_for_validation()
    await house.work()
    await late.ask_for_validation()
    await house.work()
    assert await owner.status() is DomainStatus.READY
    assert await late.status() is DomainStatus.VALIDATION_FAILED
    assert (await late.seen())["domain_validation"] == (RecordStatus.INVALID, NAME_IS_PROVED_ELSEWHERE)
