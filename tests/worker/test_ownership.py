"""The loss, the hand-over and the return of a name: by the DNS, through the prober, the worker and both engines."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import dns.rcode
import pytest
from dns.rdatatype import RdataType

from postroomd.dns import DnsProber
from postroomd.domain.errors import PreconditionFailed
from postroomd.domain.model import DomainStatus, Mailbox, MailboxStatus, RecordStatus
from postroomd.domain.ownership import ABSENT_TOKEN_INTERVAL
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import confirm_provision
from postroomd.domain.provisions import ProvisionKind
from postroomd.storage.protocols.repository import Repository
from tests.support.dns_environment import Environment, Registered
from tests.support.dns_records import NAME, dns_config, zone
from tests.support.dns_server import Authority, Internet, rcode_reply
from tests.support.factories import OPERATOR, mailbox
from tests.support.lifecycle import FREE

D, M = DomainStatus, MailboxStatus
DAY = timedelta(days=1)
GRACE = FREE.release_grace


class Story(Environment):
    """An environment in which time passes in strides."""

    async def run_worker(self, later: timedelta = timedelta(minutes=1)) -> None:
        """Run the worker later. The limits of lookups, which count real time, begin anew."""
        self.worker = replace(self.worker, prober=DnsProber(dns_config(self.internet)))
        await super().run_worker(later)

    async def pass_time(self, length: timedelta, strides: int) -> None:
        """Run the worker so many times while an amount of time passes."""
        for _ in range(strides):
            await self.run_worker(length / strides)

    async def own(self, token: str) -> Registered:
        """Register a domain whose records are published, and have it ready."""
        registered = await self.register(token)
        self.internet.publish(NAME, zone(registered.records))
        await registered.request_validation()
        await self.run_worker()
        assert await registered.status() is D.READY
        return registered

    async def create(self, owner: Registered, *local_parts: str) -> Sequence[Mailbox]:
        batch = [mailbox(name, now=self.now) for name in local_parts]
        return await self.repository.mailboxes.create(owner.context, owner.domain_id, batch)

    async def status_of(self, owner: Registered, box: Mailbox) -> MailboxStatus:
        return (await self.repository.mailboxes.get(owner.context, box.id)).status

    async def causes(self, owner: Registered) -> list[str]:
        found = await self.repository.administration.domain_transitions(owner.domain_id, 0, 100)
        return [each.cause.value for each in found]


def without_token(owner: Registered) -> str:
    """A zone with the records of a domain except its validation token."""
    return zone(owner.records, {"domain_validation": []})


@pytest.fixture
def story(repository: Repository, internet: Internet) -> Story:
    return Story(repository, internet)


async def test_a_lost_domain_is_released_after_the_grace_period_and_returns(story: Story) -> None:
    owner = await story.own("T0KEN")
    (ada,) = await story.create(owner, "ada")
    story.internet.publish(NAME, without_token(owner))
    await story.run_worker(DAY * 1.1)
    lost_at = story.now
    status, error = (await owner.results())["domain_validation"]
    assert status is RecordStatus.NOT_FOUND
    assert error
    assert await owner.status() is D.READY
    assert await story.status_of(owner, ada) is M.READY
    with pytest.raises(PreconditionFailed, match="validation token"):
        await story.create(owner, "bob")
    assert (await story.repository.work.next_due()).lookups == lost_at + ABSENT_TOKEN_INTERVAL

    await story.pass_time(GRACE - timedelta(minutes=1), 6)
    assert await owner.status() is D.READY
    assert await story.status_of(owner, ada) is M.READY
    await story.run_worker(timedelta(minutes=1))
    assert await owner.status() is D.WAITING_VALIDATION
    assert await story.status_of(owner, ada) is M.WAITING_DOMAIN
    with pytest.raises(PreconditionFailed, match="validation token"):
        await story.create(owner, "bob")
    assert (await story.causes(owner))[-1] == "ownership_lost"

    await story.run_worker(DAY * 1.1)
    assert await owner.status() is D.WAITING_VALIDATION
    story.internet.publish(NAME, zone(owner.records))
    await story.run_worker(DAY * 1.1)  # without a call
    assert await owner.status() is D.READY
    assert await story.status_of(owner, ada) is M.READY
    await story.create(owner, "bob")
    assert (await story.causes(owner))[-2:] == ["ownership_restored", "activate"]


async def test_a_name_that_its_parent_denies_is_lost(story: Story) -> None:
    owner = await story.own("T0KEN")
    await story.internet.delegate("com", "127.0.0.4")
    story.internet.servers["127.0.0.4"].handler = parent = Authority()
    parent.serve("com", "other.com. 60 IN NS ns.other.com.\n")
    story.internet.set_resolver_records(NAME, RdataType.NS)
    await story.run_worker(DAY * 1.1)
    await story.run_worker(GRACE)
    assert await owner.status() is D.WAITING_VALIDATION


async def test_a_token_that_returns_within_the_grace_period_changes_nothing(story: Story) -> None:
    owner = await story.own("T0KEN")
    (ada,) = await story.create(owner, "ada")
    for _ in range(2):
        story.internet.publish(NAME, without_token(owner))
        await story.run_worker(DAY * 1.1)
        await story.pass_time(GRACE * 0.9, 3)
        story.internet.publish(NAME, zone(owner.records))
        await story.run_worker(ABSENT_TOKEN_INTERVAL)
        assert (await owner.results())["domain_validation"][0] is RecordStatus.VALID
    assert await owner.status() is D.READY
    assert await story.status_of(owner, ada) is M.READY
    await story.create(owner, "bob")
    assert "ownership_lost" not in await story.causes(owner)


async def test_a_name_is_handed_over_to_the_organization_whose_token_is_published(story: Story) -> None:
    owner = await story.own("T0KEN")
    (ada,) = await story.create(owner, "ada")
    late = await story.register("1A7E")
    tokens: dict[str, Sequence[str]] = {kind: [] for kind in late.records if kind != "domain_validation"}
    story.internet.publish(NAME, zone(owner.records) + zone(late.records, tokens))
    await late.request_validation()
    await story.run_worker()
    assert (await owner.status(), await late.status()) == (D.READY, D.VALIDATION_FAILED)

    story.internet.publish(NAME, zone(late.records))
    await late.request_validation()
    await story.run_worker()
    assert (await owner.status(), await late.status()) == (D.WAITING_VALIDATION, D.READY)
    assert await story.status_of(owner, ada) is M.WAITING_DOMAIN
    assert (await owner.results())["domain_validation"][0] is RecordStatus.INVALID
    (bob,) = await story.create(late, "ada")
    assert bob.status is M.READY
    assert (await story.causes(owner))[-1] == "ownership_lost"
    assert (await story.causes(late))[-2:] == ["records_valid", "activate"]

    # The name goes back in the same way, even without a call.
    story.internet.publish(NAME, zone(owner.records))
    await story.run_worker(DAY * 1.1)
    await story.run_worker()
    assert (await owner.status(), await late.status()) == (D.READY, D.WAITING_VALIDATION)
    assert await story.status_of(owner, ada) is M.READY
    assert await story.status_of(late, bob) is M.WAITING_DOMAIN


async def test_a_published_token_of_another_organization_ends_the_grace_period(story: Story) -> None:
    owner, late = await story.own("T0KEN"), await story.register("1A7E")
    story.internet.publish(NAME, zone(late.records))
    await story.run_worker(DAY * 1.1)
    assert (await owner.status(), await late.status()) == (D.WAITING_VALIDATION, D.WAITING_VALIDATION)


async def test_a_secondary_server_that_is_behind_takes_no_name_away(story: Story) -> None:
    owner, late = await story.own("T0KEN"), await story.register("1A7E")
    current, behind = Authority(), Authority()
    current.serve(NAME, zone(late.records))
    behind.serve(NAME, zone(owner.records))
    servers = list(story.internet.servers.values())
    for first, second in ((current, behind), (behind, current)):
        servers[0].handler, servers[1].handler = first, second
        await late.request_validation()
        await story.run_worker(DAY * 1.1)
        assert await owner.status() is D.READY
        assert await late.status() is D.VALIDATION_FAILED
        assert (await owner.results())["domain_validation"][0] is RecordStatus.VALID


async def test_flapping_servers_release_nothing(story: Story) -> None:
    owner = await story.own("T0KEN")
    for number in range(8):
        story.internet.publish(NAME, without_token(owner) if number % 4 else zone(owner.records))
        await story.run_worker(DAY * 1.1)
    assert await owner.status() is D.READY
    assert "ownership_lost" not in await story.causes(owner)


async def test_a_week_of_failing_servers_releases_nothing(story: Story) -> None:
    owner = await story.own("T0KEN")
    (ada,) = await story.create(owner, "ada")
    for server in story.internet.servers.values():
        server.handler = rcode_reply(dns.rcode.SERVFAIL)
    await story.pass_time(7 * DAY, 10)
    assert (await owner.results())["domain_validation"][0] is RecordStatus.UNKNOWN_STATUS
    assert await owner.status() is D.READY
    assert await story.status_of(owner, ada) is M.READY
    await story.create(owner, "bob")  # the token is not absent

    # One absence between failures does not start a grace period that the failures use up.
    for server in story.internet.servers.values():
        server.handler = story.internet.authority
    story.internet.publish(NAME, without_token(owner))
    await story.run_worker(DAY * 1.1)
    for server in story.internet.servers.values():
        server.handler = rcode_reply(dns.rcode.SERVFAIL)
    await story.pass_time(7 * DAY, 10)
    for server in story.internet.servers.values():
        server.handler = story.internet.authority
    await story.run_worker(ABSENT_TOKEN_INTERVAL)
    assert await owner.status() is D.READY


async def test_a_mail_platform_is_told_of_loss_and_return(story: Story) -> None:
    owner = await story.own("T0KEN")
    story.worker = replace(story.worker, policy=LifecyclePolicy(provisioning=True))
    (ada,) = await story.create(owner, "ada")
    story.internet.publish(NAME, without_token(owner))
    await story.run_worker(DAY * 1.1)
    await story.run_worker(GRACE)
    for kind, domain_status, mailbox_status in (
        (ProvisionKind.SUSPEND, D.WAITING_VALIDATION, M.WAITING_DOMAIN),
        (ProvisionKind.RESTORE, D.READY, M.READY),
    ):
        (provision,) = (await story.repository.administration.pending_provisions(story.now, "", 10)).items
        assert (provision.kind, provision.address) == (kind, NAME)
        confirm = partial(confirm_provision, now=story.now)
        await story.repository.administration.settle_provision(OPERATOR, provision.id, confirm)
        await story.run_worker()
        assert await owner.status() is domain_status
        assert await story.status_of(owner, ada) is mailbox_status
        story.internet.publish(NAME, zone(owner.records))
        await story.run_worker(DAY * 1.1)
