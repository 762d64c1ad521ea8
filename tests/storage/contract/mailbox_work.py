"""Contract of the due work of mailboxes: leases, due times, steps."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.domains import delete_domain
from postroomd.domain.errors import PostroomError
from postroomd.domain.mailboxes import delete_mailbox
from postroomd.domain.model import DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.protocols.work import Due
from tests.storage.contract.steps import (
    ALL_VALID,
    FAR,
    INTERVAL,
    LATER,
    LEASE,
    RETENTION,
    advancing,
    lease_due,
    lease_of,
    purge,
    settle,
    step,
    validating_domain,
)
from tests.support.database_state import check_invariants, dump
from tests.support.factories import NOW, Tenant, mailbox, new_domain, new_mailbox, new_mailboxes
from tests.support.lifecycle import MICROSECOND
from tests.support.worker import activate_domains, validation_rule


class MailboxWorkContract:
    """The contract of `Work` for mailboxes."""

    async def test_a_leased_mailbox_can_be_leased_again_after_the_lease(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        await new_mailboxes(repository, await new_domain(repository, tenant), "ada", "bob", "carol")
        first, second = await lease_due(repository, FAR, 2), await lease_due(repository, FAR, 2)
        assert len({each.mailbox.id for each in (*first, *second)}) == len(first) + len(second) == 3
        assert await lease_due(repository, FAR + LEASE - MICROSECOND) == []
        again = await lease_due(repository, FAR + LEASE)
        assert [each.generation for each in again] == [2, 2, 2]

    async def test_concurrent_workers_lease_each_mailbox_once(self, repository: Repository, tenant: Tenant) -> None:
        await new_mailboxes(
            repository, await new_domain(repository, tenant), *(f"m{number:02}" for number in range(30))
        )
        leases = await asyncio.gather(*(lease_due(repository, FAR, 10) for _ in range(6)))
        ids = [each.mailbox.id for some in leases for each in some]
        assert len(ids) == len(set(ids))
        while more := await lease_due(repository, FAR):
            ids += [each.mailbox.id for each in more]
        assert len(ids) == len(set(ids)) == 30

    async def test_a_step_under_a_superseded_lease_writes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        superseded = await lease_of(repository, ada, FAR)
        latest = await lease_of(repository, ada, FAR + LEASE)
        before = await dump(raw)
        assert await repository.work.advance(superseded, advancing(FAR), FAR) is False
        await repository.work.postpone_mailbox(superseded, FAR)
        assert await dump(raw) == before
        assert await repository.work.advance(latest, advancing(FAR), FAR) is True

    async def test_a_lookup_under_a_superseded_lease_writes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await validating_domain(repository, tenant)
        (superseded,) = await repository.work.lease_domains(LATER, LEASE, 10)
        assert await repository.work.lease_domains(LATER, LEASE, 10) == []
        (latest,) = await repository.work.lease_domains(LATER + LEASE, LEASE, 10)
        before = await dump(raw)
        check = await repository.work.settle_validation(superseded, validation_rule(ALL_VALID, INTERVAL, LATER))
        assert check.domain == domain
        await repository.work.postpone_domain(superseded, FAR)
        assert await dump(raw) == before
        check = await repository.work.settle_validation(latest, validation_rule(ALL_VALID, INTERVAL, LATER))
        assert check.domain.status is DomainStatus.PROVISIONING

    async def test_failures_are_postponed_and_counted_until_a_success(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        failed = await lease_of(repository, ada)
        await repository.work.postpone_mailbox(failed, FAR + timedelta(hours=1))
        assert await lease_due(repository, FAR + timedelta(minutes=59)) == []
        (again,) = await lease_due(repository, FAR + timedelta(hours=1))
        assert (failed.failures, again.failures) == (0, 1)
        assert await repository.work.advance(again, advancing(NOW), NOW) is True  # without any change
        assert (await lease_of(repository, ada)).failures == 0

        domain = await validating_domain(repository, tenant, "other.test")
        (first,) = await repository.work.lease_domains(LATER, LEASE, 10)
        await repository.work.postpone_domain(first, FAR)
        (second,) = await repository.work.lease_domains(FAR, LEASE, 10)
        assert (first.domain.id, first.failures, second.failures) == (domain.id, 0, 1)

    async def test_next_due_is_the_earliest_due_time_of_all_work(self, repository: Repository, tenant: Tenant) -> None:
        assert await repository.work.next_due() == Due(None, None)
        domain = await new_domain(repository, tenant)
        (ada,) = await new_mailboxes(repository, domain, "ada")
        await new_mailbox(repository, domain, mailbox("yearly", period=SubscriptionPeriod.YEARLY))
        assert await repository.work.next_due() == Due(None, ada.next_subscription_period_starts_at)
        validating = await validating_domain(repository, tenant, "validating.test")
        assert (await repository.work.next_due()).lookups == NOW
        await settle(repository, validating, ALL_VALID)
        # Its provisioning can be finished at once.
        assert await repository.work.next_due() == Due(None, ada.next_subscription_period_starts_at, immediate=True)
        await activate_domains(repository.work, INTERVAL, LATER, 10)
        await repository.domains.delete(
            tenant.context, validating.id, partial(delete_domain, force=True, now=LATER), LATER
        )
        # It can be purged at once.
        assert await repository.work.next_due() == Due(None, ada.next_subscription_period_starts_at, immediate=True)
        while await purge(repository, 10):
            pass
        assert await repository.work.next_due() == Due(None, ada.next_subscription_period_starts_at)

    async def test_due_mailboxes_are_leased_longest_overdue_first(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        ours, theirs = await new_domain(repository, tenant), await new_domain(repository, other, "theirs.test")
        starts = {"third": 3, "first": 1, "fourth": 4}
        for name, hours in starts.items():
            await new_mailbox(repository, ours, mailbox(name, now=NOW + timedelta(hours=hours)))
        await new_mailbox(repository, theirs, mailbox("second", now=NOW + timedelta(hours=2)))
        await new_mailbox(repository, ours, mailbox("yearly", period=SubscriptionPeriod.YEARLY))
        await new_mailbox(repository, ours, mailbox("deleting", status=MailboxStatus.DELETING))
        last = datetime(2024, 2, 29, 16, 30, 15, 123_456, tzinfo=NOW.tzinfo)  # when the fourth is due

        async def named(now: datetime, limit: int = 10) -> list[str]:
            return [each.mailbox.email.partition("@")[0] for each in await lease_due(repository, now, limit)]

        assert await named(NOW) == []
        assert await named(last - MICROSECOND, 2) == ["first", "second"]
        assert await named(last - MICROSECOND) == ["third"]
        assert await named(last) == ["fourth"]
        assert sorted(await named(FAR)) == [
            "first",
            "fourth",
            "second",
            "third",
            "yearly",
        ]  # after the end of their leases

    async def test_a_scheduled_deletion_replaces_the_due_renewal(self, repository: Repository, tenant: Tenant) -> None:
        ada, bob = await new_mailboxes(repository, await new_domain(repository, tenant), "ada", "bob")
        await repository.mailboxes.change(tenant.context, ada.id, lambda one, _: delete_mailbox(one, RETENTION, NOW))
        renewal = bob.next_subscription_period_starts_at
        assert renewal is not None
        assert [each.mailbox.id for each in await lease_due(repository, renewal)] == [bob.id]
        assert [each.mailbox.id for each in await lease_due(repository, NOW + RETENTION)] == [bob.id, ada.id]

    async def test_a_renewal_is_stored(self, repository: Repository, tenant: Tenant, raw: AsyncEngine) -> None:
        ada, bob = await new_mailboxes(repository, await new_domain(repository, tenant), "ada", "bob")
        renewal = ada.next_subscription_period_starts_at
        assert renewal is not None
        assert await step(repository, ada, renewal) is True
        found = await repository.mailboxes.get(tenant.context, ada.id)
        renewed = advancing(renewal)(ada, DomainStatus.READY)
        assert renewed is not None
        assert replace(found, revision=1) == renewed
        assert await repository.mailboxes.get(tenant.context, bob.id) == bob
        await check_invariants(raw)

    async def test_a_step_applies_to_the_stored_mailbox_not_the_leased_one(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        lease = await lease_of(repository, ada)
        deleted = await repository.mailboxes.change(
            tenant.context, ada.id, lambda stored, _: delete_mailbox(stored, RETENTION, LATER)
        )
        seen: list[Mailbox] = []

        def rule(stored: Mailbox, _status: DomainStatus) -> Mailbox:
            seen.append(stored)
            return stored

        assert await repository.work.advance(lease, rule, LATER) is True
        assert seen == [ada, deleted]  # first as leased, to lock the domain before a purge

    async def test_a_step_that_changes_nothing_or_raises_writes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        lease = await lease_of(repository, ada)
        before = await dump(raw)

        def refuse(_stored: Mailbox, _status: DomainStatus) -> Mailbox:
            raise PostroomError("no")

        with pytest.raises(PostroomError, match="no"):
            await repository.work.advance(lease, refuse, NOW)
        assert await dump(raw) == before
        assert await repository.work.advance(lease, advancing(NOW), NOW) is True
        assert await repository.mailboxes.get(tenant.context, ada.id) == ada
        await check_invariants(raw)

    async def test_concurrent_steps_under_one_lease_renew_a_mailbox_once(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        renewal = ada.next_subscription_period_starts_at
        assert renewal is not None
        lease = await lease_of(repository, ada)
        await asyncio.gather(*(repository.work.advance(lease, advancing(renewal), renewal) for _ in range(6)))
        found = await repository.mailboxes.get(tenant.context, ada.id)
        assert (found.subscription_period_started_at, found.revision) == (renewal, 2)
