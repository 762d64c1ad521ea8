"""Contract of the audit log: each committed change has one event, written in its transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from postroomd.domain.aliases import delete_alias, describe_alias
from postroomd.domain.audit import AuditedCall, AuditEvent, AuditFilter
from postroomd.domain.context import CallContext, Idempotency, Replayed
from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import Conflict, InvalidArguments, NotFound
from postroomd.domain.mailboxes import delete_mailbox, lock_mailbox
from postroomd.storage import schema as t
from postroomd.storage.opening import open_database, open_repository
from postroomd.storage.protocols.repository import Repository
from postroomd.worker.steps import Worker
from tests.support.database_state import count_of
from tests.support.factories import (
    AUDITED,
    NOW,
    OPERATOR,
    SECRETS,
    Tenant,
    admin_key,
    api_key,
    digest,
    domain,
    mailbox,
    new_domain,
    new_id,
    new_mailboxes,
    project,
    records,
    tenant_context,
)
from tests.support.factories import (
    new_alias as stored_alias,
)
from tests.support.lifecycle import FREE
from tests.support.stores import Store
from tests.support.worker import drain

EVERYTHING = AuditFilter()
LATER = NOW + timedelta(hours=1)
COMMAND = CallContext(actor="command:ann", audit=AuditedCall(action="keys create", at=NOW))


async def events(repository: Repository, matching: AuditFilter = EVERYTHING) -> Sequence[AuditEvent]:
    return (await repository.audit.list(matching, "", 1_000)).items


async def new_events(repository: Repository, call: Callable[[], Awaitable[object]]) -> Sequence[AuditEvent]:
    """Return the events that a call adds."""
    before = {event.id for event in await events(repository)}
    await call()
    return [event for event in await events(repository) if event.id not in before]


class AuditContract:
    """The contract of `AuditLog`, and of the record that every write makes."""

    async def test_a_change_has_one_event_with_its_call(self, repository: Repository, tenant: Tenant) -> None:
        registered = domain(tenant, "example.com")
        create = partial(repository.domains.create, tenant.context, registered, records(registered), SECRETS)
        (event,) = await new_events(repository, create)
        assert event == AuditEvent(
            id=event.id,
            at=AUDITED.at,
            actor=tenant.context.actor,
            action=AUDITED.action,
            organization_id=tenant.organization.id,
            project_id=tenant.project.id,
            resource_type="domain",
            resource_id=registered.id,
            resource_ids=(),
            arguments=AUDITED.arguments,
            client_address=AUDITED.client_address,
            request_id=AUDITED.request_id,
        )

    async def test_a_batch_has_one_event_with_the_ids_of_its_mailboxes(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        parent = await new_domain(repository, tenant)
        batch = [mailbox(f"m{number}") for number in range(100)]
        create = partial(repository.mailboxes.create, tenant.context, parent.id, batch)
        (event,) = await new_events(repository, create)
        assert (event.resource_type, event.resource_id) == ("domain", parent.id)
        assert len(set(event.resource_ids)) == 100
        for mailbox_id in event.resource_ids:
            assert (await repository.mailboxes.get(tenant.context, mailbox_id)).domain_id == parent.id

    async def test_each_kind_of_change_names_what_it_changed(self, repository: Repository, tenant: Tenant) -> None:
        parent = await new_domain(repository, tenant)
        (ann,) = await new_mailboxes(repository, parent, "ann")
        alias = await stored_alias(repository, ann, "office")
        context, administration = tenant.context, repository.administration
        validate = partial(begin_validation, now=LATER)
        calls: list[tuple[str, str, Callable[[], Awaitable[object]]]] = [
            ("domain", parent.id, lambda: repository.domains.begin_validation(context, parent.id, validate, LATER)),
            (
                "alias",
                alias.id,
                lambda: repository.aliases.change(
                    context, alias.id, partial(describe_alias, description="changed", now=LATER)
                ),
            ),
            (
                "alias",
                alias.id,
                lambda: repository.aliases.delete(context, alias.id, partial(delete_alias, policy=FREE, now=LATER)),
            ),
            (
                "mailbox",
                ann.id,
                lambda: administration.change_mailbox(
                    OPERATOR, ann.id, partial(lock_mailbox, reason="abuse", now=LATER)
                ),
            ),
            (
                "domain",
                parent.id,
                lambda: repository.domains.delete(
                    context, parent.id, partial(delete_domain, force=True, now=LATER), LATER
                ),
            ),
        ]
        for resource_type, resource_id, call in calls:
            (event,) = await new_events(repository, call)
            assert (event.resource_type, event.resource_id) == (resource_type, resource_id)
            assert event.organization_id == tenant.organization.id

    async def test_what_changes_nothing_or_fails_or_is_replayed_has_no_event(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        parent = await new_domain(repository, tenant)
        (ann,) = await new_mailboxes(repository, parent, "ann")

        def delete() -> Awaitable[object]:
            return repository.mailboxes.change(
                tenant.context, ann.id, lambda it, _: delete_mailbox(it, timedelta(days=30), NOW)
            )

        assert len(await new_events(repository, delete)) == 1
        assert await new_events(repository, delete) == []

        lock = partial(lock_mailbox, reason="abuse", now=NOW)
        locking = partial(repository.administration.change_mailbox, OPERATOR, ann.id, lock)
        assert len(await new_events(repository, locking)) == 1
        assert await new_events(repository, locking) == []

        async def fail() -> None:
            with pytest.raises(Conflict):
                await repository.mailboxes.create(tenant.context, parent.id, [mailbox("bob"), mailbox("ann")])
            with pytest.raises(NotFound):
                await repository.administration.change_mailbox(OPERATOR, new_id(), lock)

        assert await new_events(repository, fail) == []
        request = Idempotency(key="k", digest=digest("r"), encode=lambda _: b"response", now=NOW, expires_at=LATER)
        once = replace(tenant.context, idempotency=request)
        create = partial(repository.mailboxes.create, once, parent.id, [mailbox("carol")])
        assert len(await new_events(repository, create)) == 1

        async def replay() -> None:
            with pytest.raises(Replayed):
                await create()

        assert await new_events(repository, replay) == []

    async def test_the_workers_steps_have_no_events(self, repository: Repository, tenant: Tenant) -> None:
        parent = await new_domain(repository, tenant)
        (ann,) = await new_mailboxes(repository, parent, "ann")
        await repository.mailboxes.change(tenant.context, ann.id, lambda it, _: delete_mailbox(it, timedelta(0), NOW))
        worker = Worker(work=repository.work, prober=None, policy=FREE)
        assert await new_events(repository, lambda: drain(worker, NOW)) == []
        with pytest.raises(NotFound):
            await repository.mailboxes.get(tenant.context, ann.id)

    async def test_the_event_is_rolled_back_with_its_change(
        self, store: Store, repository: Repository, tenant: Tenant
    ) -> None:
        database = open_database(store.url)

        async def untold(connection: AsyncConnection) -> str:
            await connection.execute(t.projects.update().values(name="renamed"))
            return "what was changed is not told"

        with pytest.raises(TypeError, match="returned str: return the resource that it changed, or Unchanged"):
            await database.write(untold, tenant.context)
        await database.close()
        assert (await repository.tenancy.get_project(tenant.context, tenant.project.id)).name == tenant.project.name
        assert await events(repository) == []

    async def test_a_command_is_the_actor_of_every_change_on_its_repository(
        self, store: Store, tenant: Tenant, repository: Repository
    ) -> None:
        command = await open_repository(store.url, command=COMMAND)
        key, further = api_key(tenant), project(tenant.organization.id)
        changes: list[tuple[str, str, Callable[[], Awaitable[object]]]] = [
            ("project", further.id, lambda: command.tenancy.create_project(further)),
            ("api_key", key.access_key, lambda: command.tenancy.create_key(key, digest("one"))),
            ("api_key", key.access_key, lambda: command.tenancy.revoke_key(key.access_key, LATER)),
            ("admin_key", "billing", lambda: command.admin_keys.create(admin_key("billing"), digest("two"))),
            ("admin_key", "billing", lambda: command.admin_keys.revoke("billing", LATER)),
            ("clock", "1", lambda: command.clocks.accept(LATER)),
        ]
        for resource_type, resource_id, change in changes:
            (event,) = await new_events(repository, change)
            assert (event.actor, event.action) == ("command:ann", "keys create")
            assert (event.resource_type, event.resource_id) == (resource_type, resource_id)
            assert (event.client_address, event.request_id, event.arguments) == ("", "", ())
            of_tenant = resource_type in {"project", "api_key"}
            assert event.organization_id == (tenant.organization.id if of_tenant else None)
        for revoke_again in (
            lambda: command.tenancy.revoke_key(key.access_key, LATER),
            lambda: command.admin_keys.revoke("billing", LATER),
        ):
            assert await new_events(repository, revoke_again) == []
        await command.close()

    async def test_events_are_listed_newest_first_by_each_filter(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        for number, each in enumerate((tenant, other, tenant, tenant)):
            context = tenant_context(
                organization_id=each.organization.id,
                actor=f"key:{number % 2}",
                audit=replace(AUDITED, at=NOW + timedelta(hours=number), request_id=str(number)),
            )
            registered = domain(each, f"d{number}.example")
            await repository.domains.create(context, registered, records(registered), SECRETS)
        newest = (await events(repository))[0]

        async def found(**filters: object) -> list[str]:
            matching = AuditFilter(**filters)  # type: ignore[arg-type]
            pages: list[str] = []
            cursor, more = "", True
            while more:
                page = await repository.audit.list(matching, cursor, 1)
                pages += [event.request_id for event in page.items]
                cursor = page.next_cursor
                more = bool(cursor)
            assert pages == [event.request_id for event in await events(repository, matching)]
            return pages

        assert await found() == ["3", "2", "1", "0"]
        assert await found(organization_id=tenant.organization.id) == ["3", "2", "0"]
        assert await found(project_id=other.project.id) == ["1"]
        assert await found(actor="key:1") == ["3", "1"]
        assert await found(actor="key:1", organization_id=tenant.organization.id) == ["3"]
        assert await found(resource_id=newest.resource_id) == ["3"]
        assert await found(resource_id=newest.resource_id, project_id=other.project.id) == []
        assert await found(since=NOW + timedelta(hours=1), until=NOW + timedelta(hours=3)) == ["2", "1"]
        for unknown in ({"organization_id": new_id()}, {"project_id": new_id()}):
            with pytest.raises(NotFound):
                await found(**unknown)
        with pytest.raises(NotFound, match=r"^project "):
            await found(organization_id=other.organization.id, project_id=tenant.project.id)
        for malformed in ("x", "bm8=", "MTIvbm8="):
            with pytest.raises(InvalidArguments):
                await repository.audit.list(EVERYTHING, malformed, 2)

    async def test_events_at_one_instant_are_listed_once_each(self, repository: Repository, tenant: Tenant) -> None:
        parent = await new_domain(repository, tenant)
        await asyncio.gather(
            *(repository.mailboxes.create(tenant.context, parent.id, [mailbox(f"m{number}")]) for number in range(5))
        )
        listed: list[str] = []
        cursor, more = "", True
        while more:
            page = await repository.audit.list(EVERYTHING, cursor, 2)
            listed += [event.id for event in page.items]
            cursor = page.next_cursor
            more = bool(cursor)
        assert len(listed) == len(set(listed)) == 6

    async def test_events_are_removed_after_their_retention_in_chunks(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        for number in range(5):
            context = replace(tenant.context, audit=replace(AUDITED, at=NOW + timedelta(days=number)))
            registered = domain(tenant, f"d{number}.example")
            await repository.domains.create(context, registered, records(registered), SECRETS)
        work, retention = repository.work, timedelta(days=400)
        due = (await work.next_due(audit_retention=retention)).steps
        assert due is not None
        assert timedelta(0) < due - (NOW + retention) <= timedelta(hours=1)
        until = NOW + timedelta(days=3)
        assert [await work.remove_audit_events(until, 3) for _ in range(3)] == [3, 1, 0]
        assert await count_of(raw, t.audit_events) == 1
        assert await count_of(raw, t.domains) == 5
