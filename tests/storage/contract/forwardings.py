"""Contract of forwardings and of their settings."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain import forwardings as rules
from postroomd.domain.aliases import new_alias as make_alias
from postroomd.domain.context import CallContext
from postroomd.domain.domains import delete_domain
from postroomd.domain.errors import InvalidArguments, NameTaken, NotFound, PostroomError, QuotaExceeded
from postroomd.domain.forwardings import ForwardingSource
from postroomd.domain.model import DomainStatus, Forwarding, ForwardingStatus, Mailbox, MailboxForwarding
from postroomd.domain.provisioning import confirm_provision
from postroomd.domain.provisions import ProvisionKind, ProvisionStatus
from postroomd.domain.queries import ForwardingQuery, Ordering
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from tests.support.database_state import check_invariants, count_of, dump, rows_of
from tests.support.factories import (
    NOW,
    OPERATOR,
    Tenant,
    forwarding,
    new_alias,
    new_domain,
    new_forwarding,
    new_id,
    new_mailboxes,
    new_neighbor,
    tenant_context,
)
from tests.support.lifecycle import FREE, PLATFORM
from tests.support.worker import activate_domains

F = ForwardingStatus
LATER = NOW + timedelta(hours=1)
ALL = ForwardingQuery(ordering=Ordering(field="email", descending=False), page=1, page_size=100)
DESTINATION = "ann@elsewhere.example"
OTHER = "other@elsewhere.example"

MUTE = partial(rules.change_settings, keep_copy=False, enabled=None, now=LATER)


async def new_mailbox(
    repository: Repository, tenant: Tenant, name: str = "example.com", status: DomainStatus = DomainStatus.READY
) -> Mailbox:
    (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant, name, status), "ada")
    return ada


def deleting(stored: Forwarding) -> Forwarding:
    return replace(stored, status=F.DELETING, updated_at=LATER)


def unchanged(stored: Forwarding) -> Forwarding:
    return stored


async def create(repository: Repository, of: Mailbox, destination: str, policy: object = FREE) -> Forwarding:
    """Create a forwarding by the rules."""
    make = partial(
        rules.new_forwarding,
        forwarding_id=new_id(),
        destination=destination,
        policy=policy,  # type: ignore[arg-type]
        now=NOW,
    )
    context = tenant_context(organization_id=of.organization_id)
    return await repository.forwardings.create(context, of.id, destination, make)


async def redirect(repository: Repository, context: CallContext, stored: Forwarding, destination: str) -> Forwarding:
    """Change a destination by the rules."""
    rule = partial(rules.redirect_forwarding, destination=destination, policy=FREE, now=LATER)
    return await repository.forwardings.redirect(context, stored.id, destination, rule)


async def add_alias(repository: Repository, of: Mailbox, local_part: str) -> object:
    make = partial(make_alias, alias_id=new_id(), local_part=local_part, description="", policy=FREE, now=NOW)
    return await repository.aliases.create(tenant_context(organization_id=of.organization_id), of.id, make)


class ForwardingsContract:
    """The contract of `Forwardings`."""

    async def test_a_forwarding_is_made_of_its_mailbox_its_siblings_and_the_alias(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        countess = await new_alias(repository, ada, "countess")
        first = await new_forwarding(repository, ada, DESTINATION)
        seen: list[ForwardingSource] = []

        def make(source: ForwardingSource) -> Forwarding:
            seen.append(source)
            return forwarding(source.mailbox, email=OTHER, forwarding_id="c0000000-0000-4000-8000-000000000000")

        destinations = {"Countess+x@example.com": countess, OTHER: None}
        for destination, alias in destinations.items():
            seen.clear()
            with pytest.raises(PostroomError, match="no"):
                await repository.forwardings.create(tenant.context, ada.id, destination, partial(_reject, make))
            assert seen == [ForwardingSource(mailbox=ada, forwardings=[first], alias=alias)]
        created = await repository.forwardings.create(tenant.project_context, ada.id, OTHER, make)
        assert await repository.forwardings.get(tenant.context, created.id) == created
        await check_invariants(raw)

    async def test_a_refused_forwarding_leaves_no_trace(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        await new_alias(repository, ada, "countess")
        first = await create(repository, ada, DESTINATION)
        before = await dump(raw)
        for destination, error in (
            ("ADA@example.com", InvalidArguments),
            ("countess@example.com", InvalidArguments),
            (DESTINATION.upper(), NameTaken),
        ):
            with pytest.raises(error):
                await create(repository, ada, destination)
        with pytest.raises(NameTaken) as caught:
            await create(repository, ada, DESTINATION)
        assert [name.id for name in caught.value.resources] == [first.id]
        assert await dump(raw) == before

    async def test_an_alias_cannot_be_a_destination_of_its_mailbox(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        ada, bob = await new_mailboxes(repository, domain, "ada", "bob")
        existing = await create(repository, ada, "Countess+x@example.com")
        before = await dump(raw)
        with pytest.raises(NameTaken) as caught:
            await add_alias(repository, ada, "countess")
        assert [name.id for name in caught.value.resources] == [existing.id]
        assert await dump(raw) == before
        await add_alias(repository, bob, "countess")  # ada then forwards to bob

    async def test_concurrent_creations_never_exceed_five_nor_forward_to_themselves(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        destinations = [f"{number}@elsewhere.example" for number in range(4)]
        outcomes = await asyncio.gather(
            *(create(repository, ada, each) for each in destinations * 2),
            create(repository, ada, "countess@example.com"),
            add_alias(repository, ada, "countess"),
            create(repository, ada, OTHER),
            create(repository, ada, DESTINATION),
            return_exceptions=True,
        )
        assert {type(each) for each in outcomes if isinstance(each, BaseException)} <= {
            NameTaken,
            InvalidArguments,
            QuotaExceeded,
        }
        assert await count_of(raw, t.forwardings) == rules.MAX_FORWARDINGS
        await check_invariants(raw)

    async def test_a_forwarding_outside_the_scope_is_not_found(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        ada = await new_mailbox(repository, tenant)
        stored = await new_forwarding(repository, ada, DESTINATION)
        await repository.forwardings.change_settings(tenant.context, ada.id, MUTE, unchanged)
        before = await dump(raw)
        outside = [
            (tenant.context, new_id(), new_id()),
            (other.context, stored.id, ada.id),
            (neighbor.project_context, stored.id, ada.id),
            (tenant_context(organization_id=other.organization.id, project_id=tenant.project.id), stored.id, ada.id),
        ]
        forwardings = repository.forwardings
        for context, forwarding_id, mailbox_id in outside:
            for call in (
                forwardings.get(context, forwarding_id),
                forwardings.redirect(context, forwarding_id, OTHER, lambda stored, _: deleting(stored)),
                forwardings.delete(context, forwarding_id, deleting),
            ):
                with pytest.raises(NotFound) as caught:
                    await call
                assert (caught.value.resource.type, caught.value.resource.id) == ("forwarding", forwarding_id)
            for mailbox_call in (
                forwardings.create(context, mailbox_id, OTHER, partial(pytest.fail, "called")),
                forwardings.settings(context, mailbox_id),
                forwardings.change_settings(context, mailbox_id, MUTE, unchanged),
            ):
                with pytest.raises(NotFound) as caught:
                    await mailbox_call
                assert (caught.value.resource.type, caught.value.resource.id) == ("mailbox", mailbox_id)
        assert await dump(raw) == before

    async def test_a_redirection_is_checked_against_the_others_and_stored(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        await new_alias(repository, ada, "countess")
        first, kept = [await create(repository, ada, each) for each in (DESTINATION, OTHER)]
        changed = await redirect(repository, tenant.project_context, first, "ANN@elsewhere.example")
        assert changed == replace(first, email="ANN@elsewhere.example", updated_at=LATER, revision=2)
        assert await repository.forwardings.get(tenant.context, first.id) == changed
        assert await repository.forwardings.get(tenant.context, kept.id) == kept
        before = await dump(raw)
        assert await redirect(repository, tenant.context, first, "ANN@elsewhere.example") == changed
        for destination, error in (
            ("ada@example.com", InvalidArguments),
            ("countess@example.com", InvalidArguments),
            (OTHER.upper(), NameTaken),
        ):
            with pytest.raises(error):
                await redirect(repository, tenant.context, first, destination)
        assert await dump(raw) == before

    async def test_concurrent_redirections_leave_no_two_equal_destinations(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        stored = [await create(repository, ada, f"{number}@elsewhere.example") for number in range(5)]
        outcomes = await asyncio.gather(
            *(redirect(repository, tenant.context, each, OTHER) for each in stored), return_exceptions=True
        )
        assert [type(one) for one in outcomes].count(NameTaken) == 4

    async def test_concurrent_deletions_of_a_forwarding_succeed_once(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        stored = await new_forwarding(repository, ada, DESTINATION)
        outcomes = await asyncio.gather(
            *(repository.forwardings.delete(tenant.project_context, stored.id, deleting) for _ in range(6)),
            return_exceptions=True,
        )
        assert [type(one) for one in outcomes].count(NotFound) == 5
        assert deleting(stored) in outcomes
        assert await count_of(raw, t.forwardings) == 0
        assert await repository.mailboxes.get(tenant.context, ada.id) == ada
        await new_forwarding(repository, ada, DESTINATION)
        await check_invariants(raw)

    async def test_forwardings_are_filtered_by_mailbox_owner_and_status(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        domain = await new_domain(repository, tenant)
        ada, bob = await new_mailboxes(repository, domain, "ada", "bob")
        away = await new_mailbox(repository, neighbor, "away.test")
        foreign = await new_mailbox(repository, other, "foreign.test")
        first = await new_forwarding(repository, ada, "1@elsewhere.example")
        second = await new_forwarding(repository, ada, "2@elsewhere.example", status=F.UPDATING)
        third = await new_forwarding(repository, bob, "3@elsewhere.example")
        fourth = await new_forwarding(repository, away, "4@elsewhere.example")
        await new_forwarding(repository, foreign, "5@elsewhere.example")
        own, project = tenant.organization.id, tenant.project.id
        expected: list[tuple[CallContext, ForwardingQuery, list[Forwarding]]] = [
            (tenant.context, ALL, [first, second, third, fourth]),
            (tenant.context, replace(ALL, organization_id=own), [first, second, third, fourth]),
            (tenant.context, replace(ALL, organization_id=other.organization.id), []),
            (tenant.project_context, ALL, [first, second, third]),
            (tenant.project_context, replace(ALL, organization_id=own), [first, second, third]),
            (tenant.context, replace(ALL, mailbox_id=ada.id), [first, second]),
            (tenant.context, replace(ALL, mailbox_id=foreign.id), []),
            (tenant.project_context, replace(ALL, mailbox_id=away.id), []),
            (tenant.context, replace(ALL, project_id=neighbor.project.id), [fourth]),
            (tenant.project_context, replace(ALL, project_id=neighbor.project.id), []),
            (tenant.context, replace(ALL, project_id=other.project.id), []),
            (tenant.context, replace(ALL, status=F.UPDATING), [second]),
            (tenant.context, replace(ALL, status=F.PROVISIONING), []),
            (tenant.context, replace(ALL, status=F.READY, project_id=project), [first, third]),
        ]
        for context, query, matches in expected:
            page = await repository.forwardings.list(context, query)
            assert (page.items, page.total_count) == (matches, len(matches)), query

    # --- Settings -----------------------------------------------------------------------------------------------------

    async def test_settings_have_defaults_until_they_are_changed(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        settings = await repository.forwardings.settings(tenant.context, ada.id)
        assert settings == rules.default_settings(ada)
        before = await dump(raw)
        keep = partial(rules.change_settings, keep_copy=True, enabled=None, now=LATER)
        assert await repository.forwardings.change_settings(tenant.context, ada.id, keep, unchanged) == settings
        assert await dump(raw) == before

        muted = await repository.forwardings.change_settings(tenant.project_context, ada.id, MUTE, unchanged)
        assert muted == replace(settings, keep_copy=False, updated_at=LATER, revision=2)
        disable = partial(rules.change_settings, keep_copy=None, enabled=False, now=LATER)
        disabled = await repository.forwardings.change_settings(tenant.context, ada.id, disable, unchanged)
        assert disabled == replace(muted, enabled=False, revision=3)
        assert await repository.forwardings.settings(tenant.project_context, ada.id) == disabled
        assert await repository.mailboxes.get(tenant.context, ada.id) == ada
        await check_invariants(raw)

    async def test_concurrent_changes_of_settings_are_all_applied(self, repository: Repository, tenant: Tenant) -> None:
        ada = await new_mailbox(repository, tenant)

        def flip(stored: MailboxForwarding, _of: Mailbox) -> MailboxForwarding:
            return replace(stored, enabled=not stored.enabled, updated_at=LATER)

        changes = [repository.forwardings.change_settings(tenant.context, ada.id, flip, unchanged) for _ in range(7)]
        assert {each.revision for each in await asyncio.gather(*changes)} == set(range(2, 9))
        assert not (await repository.forwardings.settings(tenant.context, ada.id)).enabled

    # --- The mail platform --------------------------------------------------------------------------------------------

    async def test_each_change_is_requested_of_the_platform(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        stored = await create(repository, ada, DESTINATION, PLATFORM)
        forwardings, settle = repository.forwardings, repository.administration.settle_provision
        rule = partial(rules.redirect_forwarding, destination=OTHER, policy=PLATFORM, now=LATER)
        apply = partial(rules.apply_settings, policy=PLATFORM, now=LATER)
        delete = partial(rules.delete_forwarding, policy=PLATFORM, now=LATER)
        steps: list[tuple[Callable[[], Awaitable[object]], ProvisionKind, str, bool]] = [
            (lambda: forwardings.get(tenant.context, stored.id), ProvisionKind.CREATE, DESTINATION, True),
            (
                lambda: forwardings.redirect(tenant.context, stored.id, OTHER, rule),
                ProvisionKind.UPDATE,
                OTHER,
                True,
            ),
            (
                lambda: forwardings.change_settings(tenant.context, ada.id, MUTE, apply),
                ProvisionKind.UPDATE,
                OTHER,
                False,
            ),
            (lambda: forwardings.delete(tenant.context, stored.id, delete), ProvisionKind.DELETE, OTHER, False),
        ]
        for change, kind, destination, keep_copy in steps:
            await change()
            (listed,) = (await repository.administration.pending_provisions(LATER, "", 10)).items
            assert (listed.kind, listed.forwarding_id, listed.mailbox_id) == (kind, stored.id, ada.id)
            assert (listed.address, listed.forwarding_email) == (ada.email, destination)
            assert (listed.forwarding_keep_copy, listed.forwarding_enabled) == (keep_copy, True)
            confirmed = await settle(OPERATOR, listed.id, partial(confirm_provision, now=LATER))
            assert confirmed == replace(listed, status=ProvisionStatus.CONFIRMED, settled_at=LATER)
            if kind is not ProvisionKind.DELETE:
                found = await forwardings.get(tenant.context, stored.id)
                assert (found.status, found.email) == (F.READY, destination)
        with pytest.raises(NotFound):
            await forwardings.get(tenant.context, stored.id)
        assert (await repository.administration.pending_provisions(LATER, "", 10)).items == []
        again = await settle(OPERATOR, listed.id, partial(confirm_provision, now=LATER))
        assert (again.address, again.forwarding_email, again.forwarding_enabled) == ("", "", False)
        await check_invariants(raw)

    async def test_a_change_voids_the_provision_of_the_former_state(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        stored = [await create(repository, ada, each, PLATFORM) for each in (DESTINATION, OTHER)]
        former = (await repository.administration.pending_provisions(LATER, "", 10)).items
        apply = partial(rules.apply_settings, policy=PLATFORM, now=LATER)
        await repository.forwardings.change_settings(tenant.context, ada.id, MUTE, apply)
        present = (await repository.administration.pending_provisions(LATER, "", 10)).items
        assert {each.forwarding_id for each in present} == {each.id for each in stored}
        assert {each.kind for each in present} == {ProvisionKind.CREATE}
        assert not {each.id for each in present} & {each.id for each in former}
        statuses = select(t.provisions.c.status).where(t.provisions.c.id.in_([each.id for each in former]))
        assert await rows_of(raw, statuses) == [(ProvisionStatus.VOID,)] * 2

    async def test_forwardings_are_requested_once_their_domain_is_ready(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        ada = await new_mailbox(repository, tenant, status=DomainStatus.PROVISIONING)
        stored = [await create(repository, ada, f"{n}@elsewhere.example", PLATFORM) for n in range(3)]
        assert {each.provision_id for each in stored} == {None}
        day = timedelta(days=1)
        for _ in range(2):  # a batch of two, then the rest with the domain
            domain = await repository.domains.get(tenant.context, ada.domain_id)
            assert domain.status is DomainStatus.PROVISIONING
            assert await activate_domains(repository.work, day, LATER, 2) == 1
        domain = await repository.domains.get(tenant.context, ada.domain_id)
        assert domain.status is DomainStatus.READY
        pending = (await repository.administration.pending_provisions(LATER, "", 10)).items
        assert {each.forwarding_id for each in pending} == {each.id for each in stored}

    async def test_a_deleted_domain_deletes_its_forwardings(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        kept = await new_forwarding(repository, await new_mailbox(repository, tenant, "kept.test"), DESTINATION)
        stored = await create(repository, ada, DESTINATION, PLATFORM)
        await repository.forwardings.change_settings(tenant.context, ada.id, MUTE, unchanged)
        rule = partial(delete_domain, force=True, now=LATER)
        await repository.domains.delete(tenant.context, ada.domain_id, rule, LATER)
        found = await repository.forwardings.get(tenant.context, stored.id)
        assert found == replace(stored, status=F.DELETING, updated_at=LATER, revision=2)
        while await repository.work.purge_domains(lambda _: None, lambda _: None, LATER, 10):
            pass
        with pytest.raises(NotFound):
            await repository.forwardings.get(tenant.context, stored.id)
        assert (await repository.forwardings.list(tenant.context, ALL)).items == [kept]
        assert await count_of(raw, t.mailbox_forwardings) == 0
        assert (await repository.administration.pending_provisions(LATER, "", 10)).items == []
        await check_invariants(raw)


def _reject(make: Callable[[ForwardingSource], Forwarding], source: ForwardingSource) -> Forwarding:
    make(source)
    raise PostroomError("no")
