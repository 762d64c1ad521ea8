"""Contract of quotas: a mailbox that was deleted before it was ever paid for does not count."""

from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.domains import delete_domain
from postroomd.domain.errors import QuotaExceeded
from postroomd.domain.mailboxes import advance_mailbox, delete_mailbox, restore_mailbox
from postroomd.domain.model import DomainStatus, Mailbox, MailboxStatus
from postroomd.domain.payments import confirm_payment, payment_id
from postroomd.domain.queries import MailboxQuery, Ordering
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from tests.support.database_state import check_invariants, count_of, dump
from tests.support.factories import NOW, OPERATOR, Tenant, mailbox, new_domain, new_mailbox, new_tenant
from tests.support.lifecycle import BILLED

M = MailboxStatus
LATER = NOW + timedelta(hours=1)
RETENTION = timedelta(days=30)
ALL = MailboxQuery(ordering=Ordering(field="email", descending=False), page=1, page_size=1_000)


async def mailbox_count(repository: Repository, tenant: Tenant) -> int:
    return (await repository.tenancy.get_project(tenant.context, tenant.project.id)).mailbox_count


def _delete(stored: Mailbox, _status: DomainStatus) -> Mailbox:
    return delete_mailbox(stored, RETENTION, LATER)


class QuotasContract:
    """The contract of quotas."""

    async def test_a_mailbox_that_was_never_paid_for_frees_its_quota_when_it_is_deleted(
        self, repository: Repository, raw: AsyncEngine
    ) -> None:
        tenant = await new_tenant(repository, quota=2)
        domain = await new_domain(repository, tenant)
        ada, bob = [await new_mailbox(repository, domain, mailbox(name, policy=BILLED)) for name in ("ada", "bob")]
        with pytest.raises(QuotaExceeded, match="has 2 mailboxes and a quota of 2"):
            await new_mailbox(repository, domain, mailbox("carol", policy=BILLED))
        await repository.mailboxes.change(tenant.context, ada.id, _delete)
        carol = await new_mailbox(repository, domain, mailbox("carol", policy=BILLED))
        await repository.administration.settle_payment(OPERATOR, payment_id(bob), partial(confirm_payment, now=LATER))
        await repository.mailboxes.change(tenant.context, bob.id, _delete)
        with pytest.raises(QuotaExceeded, match=r"has 2 mailboxes, 1 of them scheduled for deletion, .* quota of 2"):
            await new_mailbox(repository, domain, mailbox("dave", policy=BILLED))
        assert (await repository.domains.get(tenant.context, domain.id)).mailbox_total_count == 3
        assert (await repository.mailboxes.list(tenant.context, ALL)).total_count == 3
        await check_invariants(raw)

        before = await dump(raw)
        restore = partial(restore_mailbox, policy=BILLED, now=LATER)
        with pytest.raises(QuotaExceeded, match="has 2 mailboxes, 1 of them"):
            await repository.mailboxes.change(tenant.context, ada.id, restore)
        assert await dump(raw) == before
        await repository.mailboxes.change(tenant.context, carol.id, _delete)
        assert (await repository.mailboxes.change(tenant.context, ada.id, restore)).status is M.WAITING_PAYMENT
        restored = await repository.mailboxes.change(tenant.context, bob.id, restore)  # it has counted all along
        assert restored.status is M.READY
        await check_invariants(raw)

    async def test_a_payment_after_the_deletion_counts_the_mailbox_whatever_the_quota(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        ada = await new_mailbox(repository, domain, mailbox("ada", policy=BILLED))
        await repository.mailboxes.change(tenant.context, ada.id, _delete)
        assert await mailbox_count(repository, tenant) == 0
        async with raw.begin() as connection:
            await connection.execute(update(t.projects).values(mailbox_quota=0))
        await repository.administration.settle_payment(OPERATOR, payment_id(ada), partial(confirm_payment, now=LATER))
        assert await mailbox_count(repository, tenant) == 1
        restore = partial(restore_mailbox, policy=BILLED, now=LATER)
        assert (await repository.mailboxes.change(tenant.context, ada.id, restore)).status is M.READY
        assert await mailbox_count(repository, tenant) == 1

    async def test_a_purge_subtracts_the_mailboxes_that_count(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        ada, bob = [await new_mailbox(repository, domain, mailbox(name, policy=BILLED)) for name in ("ada", "bob")]
        await repository.administration.settle_payment(OPERATOR, payment_id(bob), partial(confirm_payment, now=NOW))
        for count, deleted in ((1, ada), (1, bob)):
            await repository.mailboxes.change(tenant.context, deleted.id, _delete)
            assert await mailbox_count(repository, tenant) == count
        for lease in await repository.work.lease_mailboxes(LATER + RETENTION, RETENTION, 10):
            rule = partial(advance_mailbox, policy=BILLED, now=LATER + RETENTION)
            await repository.work.advance(lease, rule, LATER + RETENTION)
        assert await mailbox_count(repository, tenant) == 0
        assert await count_of(raw, t.mailboxes) == 0
        await check_invariants(raw)

    async def test_a_domains_deletion_frees_the_quota_of_mailboxes_that_were_never_paid_for(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        names = ("paid", "unpaid", "unpaid-deleted")
        paid, _, deleted = [await new_mailbox(repository, domain, mailbox(name, policy=BILLED)) for name in names]
        await new_mailbox(repository, await new_domain(repository, tenant, "other.test"), mailbox("ada", policy=BILLED))
        await repository.administration.settle_payment(OPERATOR, payment_id(paid), partial(confirm_payment, now=NOW))
        await repository.mailboxes.change(tenant.context, deleted.id, _delete)
        assert await mailbox_count(repository, tenant) == 3
        rule = partial(delete_domain, force=True, now=LATER)
        await repository.domains.delete(tenant.context, domain.id, rule, LATER)
        assert await mailbox_count(repository, tenant) == 2
        await check_invariants(raw)
        while await repository.work.purge_domains(lambda _: None, lambda _: None, LATER, 2):
            await check_invariants(raw)
        assert await mailbox_count(repository, tenant) == 1
