"""Contract of mailboxes: batches, quotas, rules and lists."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.context import CallContext
from postroomd.domain.errors import NameTaken, NotFound, PostroomError, QuotaExceeded, ResourceName
from postroomd.domain.mailboxes import delete_mailbox
from postroomd.domain.model import Domain, DomainStatus, Mailbox, MailboxStatus, MailboxView, SubscriptionPeriod
from postroomd.domain.queries import MailboxQuery, Ordering
from postroomd.storage import schema as t
from postroomd.storage.protocols.mailboxes import NewMailbox
from postroomd.storage.protocols.repository import Repository
from tests.support.database_state import check_invariants, count_of, dump, password_hash, rows_of
from tests.support.factories import (
    NOW,
    Tenant,
    mailbox,
    new_alias,
    new_domain,
    new_id,
    new_mailbox,
    new_mailboxes,
    new_neighbor,
    new_tenant,
    tenant_context,
)
from tests.support.strategies import view_of

LATER = NOW + timedelta(hours=1)
RETENTION = timedelta(days=30)
ALL = MailboxQuery(ordering=Ordering(field="email", descending=False), page=1, page_size=1_000)


def renewed_yearly(stored: Mailbox, _status: DomainStatus) -> Mailbox:
    return replace(stored, next_subscription_period=SubscriptionPeriod.YEARLY, updated_at=LATER)


def unchanged(stored: Mailbox, _status: DomainStatus) -> Mailbox:
    return stored


class MailboxesContract:
    """The contract of `Mailboxes`."""

    # --- Batches ------------------------------------------------------------------------------------------------------

    async def test_a_batch_is_stored_in_order_with_addresses_and_counts(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        created = await new_mailboxes(repository, domain, "grace", "ada", "%_.'!")
        assert [one.email for one in created] == ["grace@example.com", "ada@example.com", "%_.'!@example.com"]
        for one in created:
            assert await repository.mailboxes.get(tenant.context, one.id) == one
            assert await password_hash(raw, one.id) == f"<{one.email.partition('@')[0]}>"
        stored = await repository.domains.get(tenant.context, domain.id)
        assert stored.mailbox_total_count == 3
        project = await repository.tenancy.get_project(tenant.context, tenant.project.id)
        assert project == replace(tenant.project, mailbox_count=3)
        await check_invariants(raw)

    async def test_a_mailbox_is_made_for_the_stored_domain(self, repository: Repository, tenant: Tenant) -> None:
        domain = await new_domain(repository, tenant)
        await new_mailboxes(repository, domain, "ada")
        seen: list[Domain] = []

        def make(stored_domain: Domain) -> Mailbox:
            seen.append(stored_domain)
            return mailbox("bob").make(stored_domain)

        stored = await repository.domains.get(tenant.project_context, domain.id)
        await repository.mailboxes.create(tenant.project_context, domain.id, [NewMailbox(make, "a hash")])
        assert seen == [stored]

    @pytest.mark.parametrize("place", [0, 2, 4])
    async def test_a_failure_anywhere_in_a_batch_stores_none_of_it(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine, place: int
    ) -> None:
        domain = await new_domain(repository, tenant)
        before = await dump(raw)

        def fail(_domain: Domain) -> Mailbox:
            raise PostroomError("no")

        batch = [mailbox(f"m{number}") for number in range(5)]
        batch[place] = NewMailbox(fail, "a hash")
        with pytest.raises(PostroomError, match="no"):
            await repository.mailboxes.create(tenant.context, domain.id, batch)
        assert await dump(raw) == before

    async def test_an_unexpected_failure_in_a_batch_stores_none_of_it(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        before = await dump(raw)

        def fail(_domain: Domain) -> Mailbox:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await repository.mailboxes.create(tenant.context, domain.id, [mailbox("ada"), NewMailbox(fail, "a hash")])
        assert await dump(raw) == before

    async def test_a_conflict_names_every_address_in_use(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        ada, bob, _carol = await new_mailboxes(repository, domain, "ada", "bob", "carol")
        countess = await new_alias(repository, ada, "countess")
        await repository.mailboxes.change(tenant.context, bob.id, lambda one, _: delete_mailbox(one, RETENTION, LATER))
        before = await dump(raw)
        batch = [mailbox(name) for name in ("new", "countess", "bob", "ada")]
        with pytest.raises(NameTaken) as caught:
            await repository.mailboxes.create(tenant.context, domain.id, batch)
        assert [
            (each.field, each.name, each.resource_type, each.resource_id, each.status, each.until)
            for each in caught.value.taken
        ] == [
            ("mailboxes[1].local_part", countess.email, "alias", countess.id, "ready", None),
            ("mailboxes[2].local_part", bob.email, "mailbox", bob.id, "deletion_scheduled", LATER + RETENTION),
            ("mailboxes[3].local_part", ada.email, "mailbox", ada.id, ada.status, None),
        ]
        assert await dump(raw) == before

    async def test_an_address_is_unique_only_within_its_domain(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        domains = [
            await new_domain(repository, tenant),
            await new_domain(repository, tenant, "example.org"),
            await new_domain(repository, other, status=DomainStatus.WAITING_VALIDATION),
        ]
        for domain in domains:
            await new_mailboxes(repository, domain, "ada")
        assert await count_of(raw, t.mailboxes) == 3

    async def test_concurrent_creations_of_an_address_succeed_once(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        (owner,) = await new_mailboxes(repository, domain, "owner")
        outcomes = await asyncio.gather(
            *(new_mailboxes(repository, domain, f"{number}", "ada") for number in range(6)),
            *(new_alias(repository, owner, "ada") for _ in range(6)),
            return_exceptions=True,
        )
        assert [type(one) for one in outcomes].count(NameTaken) == 11
        assert len([one for one in outcomes if not isinstance(one, BaseException)]) == 1
        await check_invariants(raw)

    # --- The quota ----------------------------------------------------------------------------------------------------

    async def test_a_batch_beyond_the_quota_is_not_stored(self, repository: Repository, raw: AsyncEngine) -> None:
        tenant = await new_tenant(repository, quota=3)
        domain = await new_domain(repository, tenant)
        await new_mailboxes(repository, domain, "ada", "bob")
        before = await dump(raw)
        with pytest.raises(QuotaExceeded) as caught:
            await new_mailboxes(repository, domain, "carol", "dave")
        error = caught.value
        assert (error.resource, error.quota, error.current) == ("mailboxes", 3, 2)
        assert error.owner == ResourceName("project", tenant.project.id)
        assert await dump(raw) == before
        (carol,) = await new_mailboxes(repository, domain, "carol")
        await repository.mailboxes.change(tenant.context, carol.id, lambda it, _: delete_mailbox(it, RETENTION, LATER))
        with pytest.raises(QuotaExceeded, match="3 mailboxes, 1 of them scheduled for deletion"):
            await new_mailboxes(repository, domain, "dave")
        await check_invariants(raw)

    async def test_each_project_has_its_own_quota(self, repository: Repository) -> None:
        tenant = await new_tenant(repository, quota=1)
        neighbor = await new_neighbor(repository, tenant)
        await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        await new_mailboxes(repository, await new_domain(repository, neighbor, "example.org"), "ada", "bob")
        with pytest.raises(QuotaExceeded):
            await new_mailboxes(repository, await new_domain(repository, tenant, "example.net"), "ada")

    async def test_concurrent_batches_never_exceed_the_quota(self, repository: Repository, raw: AsyncEngine) -> None:
        tenant = await new_tenant(repository, quota=10)
        domains = [await new_domain(repository, tenant, f"{number}.test") for number in range(3)]
        outcomes = await asyncio.gather(
            *(
                new_mailboxes(repository, domains[number % 3], *(f"m{number}-{index}" for index in range(3)))
                for number in range(9)
            ),
            return_exceptions=True,
        )
        assert [type(one) for one in outcomes].count(QuotaExceeded) == 6
        assert await count_of(raw, t.mailboxes) == 9
        await check_invariants(raw)

    # --- One mailbox --------------------------------------------------------------------------------------------------

    async def test_a_mailbox_outside_the_scope_is_not_found(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        before = await dump(raw)
        applied: list[object] = []

        def rule(stored: Mailbox, status: DomainStatus) -> Mailbox:
            applied.append(stored)
            return renewed_yearly(stored, status)

        outside = [
            (tenant.context, new_id()),
            (other.context, ada.id),
            (neighbor.project_context, ada.id),
            (tenant_context(organization_id=other.organization.id, project_id=tenant.project.id), ada.id),
        ]
        for context, mailbox_id in outside:
            for call in (
                repository.mailboxes.get(context, mailbox_id),
                repository.mailboxes.change(context, mailbox_id, rule, "a new hash"),
                repository.aliases.create(context, mailbox_id, partial(pytest.fail, "called")),
            ):
                with pytest.raises(NotFound) as caught:
                    await call
                assert (caught.value.resource.type, caught.value.resource.id) == ("mailbox", mailbox_id)
        assert applied == []
        assert await dump(raw) == before

    @pytest.mark.parametrize("status", DomainStatus)
    async def test_a_rule_gets_the_mailbox_and_its_domains_status(
        self, repository: Repository, tenant: Tenant, status: DomainStatus
    ) -> None:
        domain = await new_domain(repository, tenant, status=status)
        new = mailbox("ada", status=MailboxStatus.READY)
        if status is DomainStatus.DELETING:  # for which no mailbox can be made
            make = mailbox("ada").make
            new = NewMailbox(lambda stored: make(replace(stored, status=DomainStatus.READY)), "a hash")
        ada = await new_mailbox(repository, domain, new)
        seen: list[tuple[Mailbox, DomainStatus]] = []

        def rule(stored: Mailbox, domain_status: DomainStatus) -> Mailbox:
            seen.append((stored, domain_status))
            return renewed_yearly(stored, domain_status)

        changed = await repository.mailboxes.change(tenant.project_context, ada.id, rule)
        assert seen == [(ada, status)]
        assert changed == replace(renewed_yearly(ada, status), revision=2)
        assert await repository.mailboxes.get(tenant.context, ada.id) == changed

    async def test_every_field_that_a_rule_changes_is_stored(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada, bob = await new_mailboxes(repository, await new_domain(repository, tenant), "ada", "bob")

        def rule(stored: Mailbox, _status: DomainStatus) -> Mailbox:
            return replace(
                stored,
                status=MailboxStatus.DELETION_SCHEDULED,
                subscription_period=SubscriptionPeriod.CANCELED,
                last_paid_period=SubscriptionPeriod.YEARLY,
                period_anchor_at=LATER,
                subscription_period_started_at=LATER + timedelta(1),
                next_subscription_period=SubscriptionPeriod.CANCELED,
                next_subscription_period_starts_at=None,
                deletion_scheduled_at=LATER + timedelta(2),
                updated_at=LATER,
            )

        changed = await repository.mailboxes.change(tenant.context, ada.id, rule)
        assert changed == replace(rule(ada, DomainStatus.READY), revision=2)
        assert await repository.mailboxes.get(tenant.context, ada.id) == changed
        assert await repository.mailboxes.get(tenant.context, bob.id) == bob
        await check_invariants(raw)

    async def test_a_password_hash_is_replaced_only_by_a_new_one(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada, bob = await new_mailboxes(repository, await new_domain(repository, tenant), "ada", "bob")
        await repository.mailboxes.change(tenant.context, ada.id, renewed_yearly, "a new hash")
        assert await password_hash(raw, ada.id) == "a new hash"
        await repository.mailboxes.change(
            tenant.context, ada.id, lambda stored, _: replace(stored, updated_at=LATER + timedelta(1))
        )
        assert await password_hash(raw, ada.id) == "a new hash"
        assert await password_hash(raw, bob.id) == "<bob>"

    async def test_a_rule_that_changes_nothing_writes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        before = await dump(raw)
        assert await repository.mailboxes.change(tenant.context, ada.id, unchanged, "a new hash") == ada
        assert await dump(raw) == before

    async def test_a_rule_that_raises_writes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        before = await dump(raw)

        def reject(_stored: Mailbox, _status: DomainStatus) -> Mailbox:
            raise PostroomError("no")

        with pytest.raises(PostroomError, match="no"):
            await repository.mailboxes.change(tenant.context, ada.id, reject, "a new hash")
        assert await dump(raw) == before

    async def test_concurrent_changes_of_a_mailbox_are_all_applied(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")

        def one_second_later(stored: Mailbox, _status: DomainStatus) -> Mailbox:
            return replace(stored, updated_at=stored.updated_at + timedelta(seconds=1))

        await asyncio.gather(
            *(repository.mailboxes.change(tenant.context, ada.id, one_second_later) for _ in range(12))
        )
        found = await repository.mailboxes.get(tenant.context, ada.id)
        assert found == replace(ada, updated_at=NOW + timedelta(seconds=12), revision=13)

    # --- Lists --------------------------------------------------------------------------------------------------------

    async def test_mailboxes_are_filtered_by_domain_project_and_status(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        first = await new_domain(repository, tenant)
        second = await new_domain(repository, tenant, "second.test", DomainStatus.WAITING_VALIDATION)
        away = await new_domain(repository, neighbor, "away.test")
        foreign = await new_domain(repository, other, "foreign.test")
        ada = await new_mailbox(repository, first, mailbox("ada", status=MailboxStatus.LOCKED))
        bob, carol = await new_mailboxes(repository, first, "bob", "carol")
        (dave,) = await new_mailboxes(repository, second, "dave")
        (erin,) = await new_mailboxes(repository, away, "erin")
        await new_mailboxes(repository, foreign, "mallory")
        locked_or_waiting = (MailboxStatus.LOCKED, MailboxStatus.WAITING_DOMAIN)
        expected: list[tuple[CallContext, MailboxQuery, list[Mailbox]]] = [
            (tenant.context, ALL, [ada, bob, carol, dave, erin]),
            (tenant.project_context, ALL, [ada, bob, carol, dave]),
            (neighbor.project_context, ALL, [erin]),
            (tenant_context(organization_id=new_id()), ALL, []),
            (tenant.context, replace(ALL, domain_id=first.id), [ada, bob, carol]),
            (tenant.context, replace(ALL, domain_id=foreign.id), []),
            (tenant.project_context, replace(ALL, domain_id=away.id), []),
            (tenant.context, replace(ALL, project_id=neighbor.project.id), [erin]),
            (tenant.context, replace(ALL, project_id=other.project.id), []),
            (tenant.project_context, replace(ALL, project_id=neighbor.project.id), []),
            (tenant.context, replace(ALL, statuses=(MailboxStatus.LOCKED,)), [ada]),
            (tenant.context, replace(ALL, statuses=locked_or_waiting), [ada, dave]),
            (tenant.context, replace(ALL, statuses=(MailboxStatus.RENEWING,)), []),
            (tenant.context, replace(ALL, statuses=locked_or_waiting, domain_id=second.id), [dave]),
            (tenant.context, replace(ALL, domain_id=first.id, search="o"), [ada, bob, carol]),
            (tenant.context, replace(ALL, domain_id=first.id, search="o", page_size=2), [ada, bob]),
        ]
        for context, query, matches in expected:
            page = await repository.mailboxes.list(context, query)
            assert page.items == list(map(view_of, matches)), query
            assert page.total_count == (3 if query.page_size == 2 else len(matches))

    @pytest.mark.parametrize(
        ("search", "matches"),
        [
            ("%", ["50%.off"]),
            ("50%", ["50%.off"]),
            ("%off", []),
            ("_", ["under_score"]),
            ("r_s", ["under_score"]),
            ("undersc", ["underscore"]),
            ("/", ["and/or"]),
            ("/o", ["and/or"]),
            ("\\", []),
            ("\\%", []),
            ("'", ["o'hara"]),
            ("O'HARA", ["o'hara"]),
            ('"', []),
            ("*", ["a*b"]),
            ("?", []),
            ("a*", ["a*b"]),
            ("@example.com", ["50%.off", "a*b", "and/or", "o'hara", "under_score", "underscore"]),
            ("score@EXAMPLE", ["under_score", "underscore"]),
            ("example.org", []),
            ("é", []),
            ("x" * 320, []),
        ],
    )
    async def test_every_character_of_a_search_is_literal(
        self, repository: Repository, tenant: Tenant, search: str, matches: list[str]
    ) -> None:
        domain = await new_domain(repository, tenant)
        names = ["50%.off", "under_score", "underscore", "and/or", "o'hara", "a*b"]
        await new_mailboxes(repository, domain, *names)
        page = await repository.mailboxes.list(tenant.context, replace(ALL, search=search))
        assert [one.email.removesuffix("@example.com") for one in page.items] == matches
        assert page.total_count == len(matches)

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("order", ["created_at", "updated_at", "email"])
    async def test_mailboxes_are_ordered_with_ties_broken_by_id(
        self, repository: Repository, tenant: Tenant, order: str, descending: bool
    ) -> None:
        domain = await new_domain(repository, tenant)
        batch = [
            mailbox(f"{'c~a'[number % 3]}{number}", now=NOW + timedelta(microseconds=number % 3))
            for number in range(11)
        ]
        created = await repository.mailboxes.create(tenant.context, domain.id, batch)
        expected = sorted(created, key=lambda one: (getattr(one, order), one.id), reverse=descending)
        query = replace(ALL, ordering=Ordering(field=order, descending=descending), page_size=3)
        listed: list[MailboxView] = []
        for number in (1, 2, 3, 4, 5):
            page = await repository.mailboxes.list(tenant.context, replace(query, page=number))
            assert page.total_count == 11
            listed += page.items
        assert listed == list(map(view_of, expected))

    async def test_a_page_after_the_last_is_empty(self, repository: Repository, tenant: Tenant) -> None:
        await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        page = await repository.mailboxes.list(tenant.context, replace(ALL, page=2**31 - 1))
        assert (page.items, page.total_count) == ([], 1)

    async def test_mailboxes_with_a_scheduled_deletion_are_counted(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        ada, _bob = await new_mailboxes(repository, domain, "ada", "bob")
        await repository.mailboxes.change(
            tenant.context, ada.id, lambda stored, _: delete_mailbox(stored, RETENTION, LATER)
        )
        assert (await repository.mailboxes.list(tenant.context, ALL)).total_count == 2
        assert (await repository.domains.get(tenant.context, domain.id)).mailbox_total_count == 2
        assert await rows_of(raw, select(t.projects.c.mailbox_count)) == [(2,)]
        await check_invariants(raw)
