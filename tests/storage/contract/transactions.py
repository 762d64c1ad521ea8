"""What holds of every transaction: callers that go away, a repository that closes, calls that are repeated."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.context import CallContext, Idempotency, Replayed
from postroomd.domain.domains import delete_domain
from postroomd.domain.errors import InvalidArguments, PostroomError
from postroomd.domain.model import Alias, Domain, DomainStatus, Mailbox
from postroomd.domain.queries import MailboxQuery, Ordering
from postroomd.storage import schema as t
from postroomd.storage.protocols.mailboxes import NewMailbox
from postroomd.storage.protocols.repository import Repository
from tests.support.factories import (
    NOW,
    SECRETS,
    Tenant,
    alias,
    domain,
    mailbox,
    new_alias,
    new_domain,
    new_mailboxes,
    new_neighbor,
    new_tenant,
    records,
    tenant_context,
)
from tests.support.stored import check_invariants, count_of, dump, eventually
from tests.support.stores import Store

LATER = NOW + timedelta(hours=1)
EVERYTHING = MailboxQuery(ordering=Ordering(field="email", descending=False), page=1, page_size=1_000)


def idempotency(key: str, digest: bytes = b"a digest", *, hours: int = 0) -> Idempotency:
    """An idempotency key sent so many hours after NOW; the response is kept for a day."""
    now = NOW + timedelta(hours=hours)
    return Idempotency(
        key=key,
        digest=digest,
        encode=lambda result: repr(result).encode(),
        now=now,
        expires_at=now + timedelta(hours=24),
    )


class TransactionsContract:
    # --- Callers that go away -----------------------------------------------------------------------------------------

    async def test_a_transaction_whose_caller_goes_away_runs_to_its_end(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine, connections: Callable[[], int]
    ) -> None:
        within = await new_domain(repository, tenant)
        calls: list[asyncio.Task[object]] = []

        def make(found: Domain) -> Mailbox:
            calls[0].cancel()  # the caller hangs up in the middle of the transaction
            return mailbox("last").make(found)

        batch = [mailbox("first"), mailbox("second"), NewMailbox(make, "a hash")]
        calls.append(asyncio.ensure_future(repository.mailboxes.create(tenant.context, within.id, batch)))
        with pytest.raises(asyncio.CancelledError):
            await calls[0]

        async def stored() -> bool:
            return (await repository.mailboxes.list(tenant.context, EVERYTHING)).total_count == 3

        await eventually(stored)
        await eventually(lambda: connections() == 0)
        await check_invariants(raw)

    async def test_a_failing_transaction_whose_caller_goes_away_leaves_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine, connections: Callable[[], int]
    ) -> None:
        within = await new_domain(repository, tenant)
        before = await dump(raw)
        calls: list[asyncio.Task[object]] = []

        def fail(_found: Domain) -> Mailbox:
            calls[0].cancel()
            raise PostroomError("no")

        batch = [mailbox("first"), NewMailbox(fail, "a hash")]
        calls.append(asyncio.ensure_future(repository.mailboxes.create(tenant.context, within.id, batch)))
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        await eventually(lambda: connections() == 0)
        assert await dump(raw) == before

    @pytest.mark.parametrize("seed", range(3))
    async def test_callers_that_go_away_at_any_instant_leave_whole_batches_and_idle_connections(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine, connections: Callable[[], int], seed: int
    ) -> None:
        chance = random.Random(seed)
        within = await new_domain(repository, tenant)
        (owner,) = await new_mailboxes(repository, within, "owner")
        calls: list[asyncio.Future[object]] = []
        for number in range(30):
            acts: list[Callable[[], Awaitable[object]]] = [
                partial(new_mailboxes, repository, within, f"{number}-a", f"{number}-b", f"{number}-c"),
                partial(new_alias, repository, owner, f"{number}-alias"),
                partial(repository.mailboxes.list, tenant.context, EVERYTHING),
                partial(repository.mailboxes.get, tenant.context, owner.id),
            ]
            calls.append(asyncio.ensure_future(chance.choice(acts)()))
        going = chance.sample(calls, 20)
        for call in going:
            await asyncio.sleep(chance.random() * 0.004)
            call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        kinds = {type(one) for one in outcomes if isinstance(one, BaseException)}
        assert kinds <= {asyncio.CancelledError}
        await eventually(lambda: connections() == 0)
        await check_invariants(raw)
        names = [one.email for one in (await repository.mailboxes.list(tenant.context, EVERYTHING)).items]
        batches = [name for name in names if name.endswith("-a@example.com")]
        assert len(names) == 1 + 3 * len(batches)

    async def test_a_repository_closes_after_what_it_has_begun(
        self, store: Store, repository: Repository, tenant: Tenant
    ) -> None:
        within = await new_domain(repository, tenant)
        begun = asyncio.Event()

        def make(found: Domain, name: str) -> Mailbox:
            begun.set()
            return mailbox(name).make(found)

        batch = [NewMailbox(partial(make, name=f"m{number}"), "a hash") for number in range(50)]
        call = asyncio.ensure_future(repository.mailboxes.create(tenant.context, within.id, batch))
        await begun.wait()
        await repository.close()
        assert len(await call) == 50
        again = await store.open()
        assert (await again.mailboxes.list(tenant.context, EVERYTHING)).total_count == 50

    async def test_a_repository_that_is_closed_has_given_up_every_connection(
        self, store: Store, repository: Repository, tenant: Tenant, connections: Callable[[], int]
    ) -> None:
        await asyncio.gather(*(repository.mailboxes.list(tenant.context, EVERYTHING) for _ in range(20)))
        await repository.close()
        assert connections() == 0
        await repository.close()

    # --- Several processes --------------------------------------------------------------------------------------------

    async def test_a_database_answers(self, repository: Repository) -> None:
        await repository.ping()

    async def test_what_one_repository_stores_another_sees_at_once(
        self, store: Store, repository: Repository, tenant: Tenant
    ) -> None:
        neighbor = await store.open()
        within = await new_domain(repository, tenant)
        assert await neighbor.domains.get(tenant.context, within.id) == within
        (ada,) = await new_mailboxes(neighbor, within, "ada")
        assert await repository.mailboxes.get(tenant.context, ada.id) == ada

    async def test_several_repositories_keep_one_quota(self, store: Store, raw: AsyncEngine) -> None:
        repositories = [await store.open() for _ in range(3)]
        tenant = await new_tenant(repositories[0], quota=10)
        within = await new_domain(repositories[0], tenant)
        outcomes = await asyncio.gather(
            *(
                new_mailboxes(repositories[number % 3], within, f"{number}-a", f"{number}-b", f"{number}-c")
                for number in range(9)
            ),
            return_exceptions=True,
        )
        assert len([one for one in outcomes if not isinstance(one, BaseException)]) == 3
        assert all(isinstance(one, PostroomError) for one in outcomes if isinstance(one, BaseException))
        assert await count_of(raw, t.mailboxes) == 9
        await check_invariants(raw)

    # --- Calls that are repeated --------------------------------------------------------------------------------------

    async def test_a_call_that_is_repeated_under_its_key_has_one_effect_and_one_answer(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        within = await new_domain(repository, tenant)
        key = idempotency("a key")
        context = replace(tenant.context, idempotency=key)
        await repository.require_unused(context)
        created = await new_mailboxes(repository, within, "ada", idempotency=key)
        before = await dump(raw)
        for again in (
            repository.require_unused(context),
            new_mailboxes(repository, within, "ada", idempotency=key),
            new_mailboxes(repository, within, "bob", idempotency=key),
        ):
            with pytest.raises(Replayed) as caught:
                await again
            assert caught.value.response == repr(created).encode()
        assert await dump(raw) == before

    async def test_every_scoped_write_is_kept_under_its_key(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        within = await new_domain(repository, tenant)
        (ada,) = await new_mailboxes(repository, within, "ada")
        countess = await new_alias(repository, ada, "countess")
        made = domain(tenant, "second.test")

        def touched(stored: Mailbox, _status: DomainStatus) -> Mailbox:
            return replace(stored, updated_at=LATER)

        def described(stored: Alias) -> Alias:
            return replace(stored, description="another")

        writes: list[Callable[[CallContext], Awaitable[object]]] = [
            lambda context: repository.domains.create(context, made, records(made), SECRETS),
            lambda context: repository.domains.begin_validation(context, within.id, lambda stored: stored, LATER),
            lambda context: repository.mailboxes.create(context, within.id, [mailbox("bob")]),
            lambda context: repository.mailboxes.change(context, ada.id, touched),
            lambda context: repository.aliases.create(context, ada.id, partial(alias, local_part="lovelace")),
            lambda context: repository.aliases.change(context, countess.id, described),
            lambda context: repository.aliases.delete(context, countess.id, described),
            lambda context: repository.domains.delete(context, within.id, partial(delete_domain, now=LATER), LATER),
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

    async def test_a_key_is_refused_for_another_request(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        within = await new_domain(repository, tenant)
        await new_mailboxes(repository, within, "ada", idempotency=idempotency("a key"))
        before = await dump(raw)
        other = idempotency("a key", b"another digest")
        for again in (
            repository.require_unused(replace(tenant.context, idempotency=other)),
            new_mailboxes(repository, within, "bob", idempotency=other),
        ):
            with pytest.raises(InvalidArguments) as caught:
                await again
            assert [violation.field for violation in caught.value.violations] == ["idempotency-key"]
        assert await dump(raw) == before

    async def test_a_call_that_failed_leaves_its_key_unused(self, repository: Repository, tenant: Tenant) -> None:
        within = await new_domain(repository, tenant)
        await new_mailboxes(repository, within, "ada")
        key = idempotency("a key")
        with pytest.raises(PostroomError):
            await new_mailboxes(repository, within, "ada", "bob", idempotency=key)
        await repository.require_unused(replace(tenant.context, idempotency=key))
        await new_mailboxes(repository, within, "bob", idempotency=key)

    async def test_a_key_belongs_to_who_can_see_what_it_did(
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

    async def test_of_many_calls_under_one_key_at_once_one_has_its_effect(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        within = await new_domain(repository, tenant)
        key = idempotency("a key")
        calls = [new_mailboxes(repository, within, f"m{number}", idempotency=key) for number in range(8)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in outcomes].count(Replayed) == 7
        (effect,) = [one for one in outcomes if not isinstance(one, BaseException)]
        assert {one.response for one in outcomes if isinstance(one, Replayed)} == {repr(effect).encode()}
        assert await count_of(raw, t.mailboxes) == 1
        await check_invariants(raw)

    async def test_an_answer_is_kept_for_its_time_and_then_forgotten(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        within = await new_domain(repository, tenant)
        for number in range(5):
            key = idempotency(f"key {number}", hours=number)
            await new_mailboxes(repository, within, f"m{number}", idempotency=key)
        assert await repository.work.remove_expired_responses(NOW + timedelta(hours=23), 10) == 0
        moment = NOW + timedelta(hours=26)  # three have expired
        assert [await repository.work.remove_expired_responses(moment, 2) for _ in range(3)] == [2, 1, 0]
        assert await count_of(raw, t.idempotency_keys) == 2
        with pytest.raises(Replayed):
            await repository.require_unused(replace(tenant.context, idempotency=idempotency("key 4", hours=26)))

    async def test_an_answer_that_has_expired_makes_room_before_it_is_forgotten(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        within = await new_domain(repository, tenant)
        await new_mailboxes(repository, within, "ada", idempotency=idempotency("a key"))
        expired = idempotency("a key", b"another digest", hours=24)
        (bob,) = await new_mailboxes(repository, within, "bob", idempotency=expired)
        assert await repository.mailboxes.get(tenant_context(organization_id=tenant.organization.id), bob.id) == bob
