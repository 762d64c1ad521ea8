"""Contract of transactions: cancellation, closing, several repositories, idempotency keys."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import Pool, event
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.context import CallContext, Idempotency, Replayed
from postroomd.domain.domains import delete_domain
from postroomd.domain.errors import InvalidArguments, PostroomError
from postroomd.domain.model import Alias, Domain, DomainStatus, Mailbox
from postroomd.domain.queries import MailboxQuery, Ordering
from postroomd.storage import schema as t
from postroomd.storage.protocols.mailboxes import NewMailbox
from postroomd.storage.protocols.repository import Repository
from tests.support import factories
from tests.support.database_state import check_invariants, count_of, dump
from tests.support.factories import (
    NOW,
    SECRETS,
    Tenant,
    alias,
    forwarding,
    mailbox,
    new_alias,
    new_domain,
    new_forwarding,
    new_mailboxes,
    new_neighbor,
    new_tenant,
    records,
    tenant_context,
)
from tests.support.stores import Store
from tests.support.waiting import wait_until

LATER = NOW + timedelta(hours=1)
ALL = MailboxQuery(ordering=Ordering(field="email", descending=False), page=1, page_size=1_000)


def idempotency(key: str, digest: bytes = b"a digest", *, hours: int = 0) -> Idempotency:
    """Return an idempotency key, sent `hours` after NOW, whose response expires after 24 hours."""
    now = NOW + timedelta(hours=hours)
    return Idempotency(
        key=key,
        digest=digest,
        encode=lambda result: repr(result).encode(),
        now=now,
        expires_at=now + timedelta(hours=24),
    )


class TransactionsContract:
    """What holds for every transaction."""

    # --- Cancellation and closing -------------------------------------------------------------------------------------

    async def test_a_transaction_commits_although_its_caller_is_canceled(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine, connections: Callable[[], int]
    ) -> None:
        domain = await new_domain(repository, tenant)
        calls: list[asyncio.Task[object]] = []

        def make(stored: Domain) -> Mailbox:
            calls[0].cancel()  # in the middle of the transaction
            return mailbox("last").make(stored)

        batch = [mailbox("first"), mailbox("second"), NewMailbox(make, "a hash")]
        calls.append(asyncio.ensure_future(repository.mailboxes.create(tenant.context, domain.id, batch)))
        with pytest.raises(asyncio.CancelledError):
            await calls[0]

        async def stored() -> bool:
            return (await repository.mailboxes.list(tenant.context, ALL)).total_count == 3

        await wait_until(stored)
        await wait_until(lambda: connections() == 0)
        await check_invariants(raw)

    async def test_a_failing_transaction_of_a_canceled_caller_writes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine, connections: Callable[[], int]
    ) -> None:
        domain = await new_domain(repository, tenant)
        before = await dump(raw)
        calls: list[asyncio.Task[object]] = []

        def fail(_stored: Domain) -> Mailbox:
            calls[0].cancel()
            raise PostroomError("no")

        batch = [mailbox("first"), NewMailbox(fail, "a hash")]
        calls.append(asyncio.ensure_future(repository.mailboxes.create(tenant.context, domain.id, batch)))
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        await wait_until(lambda: connections() == 0)
        assert await dump(raw) == before

    @pytest.mark.parametrize("seed", range(3))
    async def test_cancellations_leave_whole_batches_and_idle_connections(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine, connections: Callable[[], int], seed: int
    ) -> None:
        rng = random.Random(seed)
        domain = await new_domain(repository, tenant)
        (owner,) = await new_mailboxes(repository, domain, "owner")
        calls: list[asyncio.Future[object]] = []
        for number in range(30):
            operations: list[Callable[[], Awaitable[object]]] = [
                partial(new_mailboxes, repository, domain, f"{number}-a", f"{number}-b", f"{number}-c"),
                partial(new_alias, repository, owner, f"{number}-alias"),
                partial(repository.mailboxes.list, tenant.context, ALL),
                partial(repository.mailboxes.get, tenant.context, owner.id),
            ]
            calls.append(asyncio.ensure_future(rng.choice(operations)()))
        for call in rng.sample(calls, 20):
            await asyncio.sleep(rng.random() * 0.004)
            call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        kinds = {type(one) for one in outcomes if isinstance(one, BaseException)}
        assert kinds <= {asyncio.CancelledError}
        await wait_until(lambda: connections() == 0)
        await check_invariants(raw)
        names = [one.email for one in (await repository.mailboxes.list(tenant.context, ALL)).items]
        batches = [name for name in names if name.endswith("-a@example.com")]
        assert len(names) == 1 + 3 * len(batches)

    async def test_closing_a_repository_waits_for_running_transactions(
        self, store: Store, repository: Repository, tenant: Tenant
    ) -> None:
        domain = await new_domain(repository, tenant)
        started = asyncio.Event()

        def make(stored: Domain, name: str) -> Mailbox:
            started.set()
            return mailbox(name).make(stored)

        batch = [NewMailbox(partial(make, name=f"m{number}"), "a hash") for number in range(50)]
        call = asyncio.ensure_future(repository.mailboxes.create(tenant.context, domain.id, batch))
        await started.wait()
        await repository.close()
        assert len(await call) == 50
        reopened = await store.open()
        assert (await reopened.mailboxes.list(tenant.context, ALL)).total_count == 50

    async def test_closing_a_repository_waits_for_running_reads(self, repository: Repository) -> None:
        # They open further connections, which a disposed pool would never have closed.
        open_connections: set[object] = set()

        def opened(connection: object, _record: object) -> None:
            open_connections.add(connection)

        def closed(connection: object, _record: object) -> None:
            open_connections.discard(connection)

        event.listen(Pool, "connect", opened)
        event.listen(Pool, "close", closed)
        reads = [asyncio.ensure_future(repository.tenancy.list_projects()) for _ in range(4)]
        await asyncio.sleep(0)  # each has begun
        await repository.close()
        assert await asyncio.gather(*reads) == [[]] * 4
        assert open_connections == set()
        event.remove(Pool, "connect", opened)
        event.remove(Pool, "close", closed)

    async def test_closing_a_repository_releases_every_connection(
        self, store: Store, repository: Repository, tenant: Tenant, connections: Callable[[], int]
    ) -> None:
        await asyncio.gather(*(repository.mailboxes.list(tenant.context, ALL) for _ in range(20)))
        await repository.close()
        assert connections() == 0
        await repository.close()

    # --- Several repositories -----------------------------------------------------------------------------------------

    async def test_a_ping_reaches_the_database(self, repository: Repository) -> None:
        await repository.ping()

    async def test_a_commit_is_visible_to_other_repositories(
        self, store: Store, repository: Repository, tenant: Tenant
    ) -> None:
        second = await store.open()
        domain = await new_domain(repository, tenant)
        assert await second.domains.get(tenant.context, domain.id) == domain
        (ada,) = await new_mailboxes(second, domain, "ada")
        assert await repository.mailboxes.get(tenant.context, ada.id) == ada

    async def test_concurrent_repositories_never_exceed_the_quota(self, store: Store, raw: AsyncEngine) -> None:
        repositories = [await store.open() for _ in range(3)]
        tenant = await new_tenant(repositories[0], quota=10)
        domain = await new_domain(repositories[0], tenant)
        outcomes = await asyncio.gather(
            *(
                new_mailboxes(repositories[number % 3], domain, f"{number}-a", f"{number}-b", f"{number}-c")
                for number in range(9)
            ),
            return_exceptions=True,
        )
        assert len([one for one in outcomes if not isinstance(one, BaseException)]) == 3
        assert all(isinstance(one, PostroomError) for one in outcomes if isinstance(one, BaseException))
        assert await count_of(raw, t.mailboxes) == 9
        await check_invariants(raw)

    # --- Idempotency keys ---------------------------------------------------------------------------------------------

    async def test_a_repeated_call_has_one_effect_and_one_response(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        key = idempotency("a key")
        context = replace(tenant.context, idempotency=key)
        await repository.require_unused(context)
        created = await new_mailboxes(repository, domain, "ada", idempotency=key)
        before = await dump(raw)
        for repeated_call in (
            repository.require_unused(context),
            new_mailboxes(repository, domain, "ada", idempotency=key),
            new_mailboxes(repository, domain, "bob", idempotency=key),
        ):
            with pytest.raises(Replayed) as caught:
                await repeated_call
            assert caught.value.response == repr(created).encode()
        assert await dump(raw) == before

    async def test_every_tenant_write_stores_its_response(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        (ada,) = await new_mailboxes(repository, domain, "ada")
        countess = await new_alias(repository, ada, "countess")
        existing = await new_forwarding(repository, ada, "a@elsewhere.example")
        second = factories.domain(tenant, "second.test")

        def updated(stored: Mailbox, _status: DomainStatus) -> Mailbox:
            return replace(stored, updated_at=LATER)

        def described(stored: Alias) -> Alias:
            return replace(stored, description="another")

        writes: list[Callable[[CallContext], Awaitable[object]]] = [
            lambda context: repository.domains.create(context, second, records(second), SECRETS),
            lambda context: repository.domains.begin_validation(context, domain.id, lambda stored: stored, LATER),
            lambda context: repository.mailboxes.create(context, domain.id, [mailbox("bob")]),
            lambda context: repository.mailboxes.change(context, ada.id, updated),
            lambda context: repository.aliases.create(context, ada.id, partial(alias, local_part="lovelace")),
            lambda context: repository.aliases.change(context, countess.id, described),
            lambda context: repository.aliases.delete(context, countess.id, described),
            lambda context: repository.forwardings.create(
                context, ada.id, "b@c.example", lambda source: forwarding(source.mailbox, email="b@c.example")
            ),
            lambda context: repository.forwardings.redirect(
                context, existing.id, "c@d.example", lambda stored, _: replace(stored, email="c@d.example")
            ),
            lambda context: repository.forwardings.delete(
                context, existing.id, lambda stored: replace(stored, updated_at=LATER)
            ),
            lambda context: repository.forwardings.change_settings(
                context, ada.id, lambda stored, _: replace(stored, enabled=False), lambda stored: stored
            ),
            lambda context: repository.domains.delete(
                context, domain.id, partial(delete_domain, force=True, now=LATER), LATER
            ),
        ]
        for number, write in enumerate(writes):
            context = replace(tenant.context, idempotency=idempotency(f"key {number}"))
            first = await write(context)
            before = await dump(raw)
            with pytest.raises(Replayed) as caught:
                await write(context)
            assert caught.value.response == repr(first).encode()
            assert await dump(raw) == before
        assert await count_of(raw, t.idempotency_keys) == len(writes)

    async def test_a_key_is_rejected_for_another_request(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        await new_mailboxes(repository, domain, "ada", idempotency=idempotency("a key"))
        before = await dump(raw)
        other = idempotency("a key", b"another digest")
        for repeated_call in (
            repository.require_unused(replace(tenant.context, idempotency=other)),
            new_mailboxes(repository, domain, "bob", idempotency=other),
        ):
            with pytest.raises(InvalidArguments) as caught:
                await repeated_call
            assert [violation.field for violation in caught.value.violations] == ["idempotency-key"]
        assert await dump(raw) == before

    async def test_a_failed_call_leaves_its_key_unused(self, repository: Repository, tenant: Tenant) -> None:
        domain = await new_domain(repository, tenant)
        await new_mailboxes(repository, domain, "ada")
        key = idempotency("a key")
        with pytest.raises(PostroomError):
            await new_mailboxes(repository, domain, "ada", "bob", idempotency=key)
        await repository.require_unused(replace(tenant.context, idempotency=key))
        await new_mailboxes(repository, domain, "bob", idempotency=key)

    async def test_an_idempotency_key_belongs_to_its_scope(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        key = idempotency("a key")
        await new_domain(repository, tenant, idempotency=key)
        for context in (other.context, tenant.project_context, neighbor.project_context):
            await repository.require_unused(replace(context, idempotency=key))
        await new_domain(repository, other, "other.test", idempotency=key)
        with pytest.raises(Replayed):
            await repository.require_unused(replace(tenant.context, idempotency=key))

    async def test_concurrent_calls_under_one_key_have_one_effect(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        key = idempotency("a key")
        calls = [new_mailboxes(repository, domain, f"m{number}", idempotency=key) for number in range(8)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in outcomes].count(Replayed) == 7
        (result,) = [one for one in outcomes if not isinstance(one, BaseException)]
        assert {one.response for one in outcomes if isinstance(one, Replayed)} == {repr(result).encode()}
        assert await count_of(raw, t.mailboxes) == 1
        await check_invariants(raw)

    async def test_expired_responses_are_deleted(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        for number in range(5):
            key = idempotency(f"key {number}", hours=number)
            await new_mailboxes(repository, domain, f"m{number}", idempotency=key)
        assert await repository.work.remove_expired_responses(NOW + timedelta(hours=23), 10) == 0
        now = NOW + timedelta(hours=26)  # three have expired
        assert [await repository.work.remove_expired_responses(now, 2) for _ in range(3)] == [2, 1, 0]
        assert await count_of(raw, t.idempotency_keys) == 2
        with pytest.raises(Replayed):
            await repository.require_unused(replace(tenant.context, idempotency=idempotency("key 4", hours=26)))

    async def test_an_expired_key_can_be_reused_before_its_deletion(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        domain = await new_domain(repository, tenant)
        await new_mailboxes(repository, domain, "ada", idempotency=idempotency("a key"))
        expired = idempotency("a key", b"another digest", hours=24)
        (bob,) = await new_mailboxes(repository, domain, "bob", idempotency=expired)
        assert await repository.mailboxes.get(tenant_context(organization_id=tenant.organization.id), bob.id) == bob
