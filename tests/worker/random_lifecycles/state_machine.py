"""Random lifecycles of mailboxes: calls, a clock that jumps, crashing and concurrent workers, on both engines.

`make soak` runs many more of them.
"""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any, ClassVar
from uuid import UUID

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy.ext.asyncio import create_async_engine

from postroomd.domain.aliases import delete_alias, new_alias
from postroomd.domain.errors import PreconditionFailed, QuotaExceeded
from postroomd.domain.forwardings import (
    apply_settings,
    change_settings,
    delete_forwarding,
    new_forwarding,
    redirect_forwarding,
)
from postroomd.domain.mailboxes import delete_mailbox, lock_mailbox, restore_mailbox, unlock_mailbox, update_mailbox
from postroomd.domain.model import Alias, Forwarding, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.domain.payments import confirm_payment, refuse_payment
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import confirm_provision, fail_provision
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository
from tests.support import factories
from tests.support.factories import OPERATOR, mailbox
from tests.worker.random_lifecycles.world import World

EXAMPLES = int(os.environ.get("POSTROOM_SOAK_EXAMPLES", "20"))
STEPS = 50
# Shrinking a failure takes minutes, and so only a soak does it.
PHASES = list(Phase) if "POSTROOM_SOAK_EXAMPLES" in os.environ else [Phase.reuse, Phase.generate]

M, P = MailboxStatus, SubscriptionPeriod

POLICIES = [
    LifecyclePolicy(billing=billing, provisioning=platform) for billing in (False, True) for platform in (False, True)
]
STRIDES = [timedelta(0), timedelta(hours=5), timedelta(days=8), timedelta(days=31), timedelta(days=100)]
SMALL_STEPS_BACK = [timedelta(microseconds=1), timedelta(seconds=1), timedelta(minutes=5)]

DESTINATIONS = ["a.test", "elsewhere.test"]

numbers = st.integers(min_value=0, max_value=7)


class Lifecycle(RuleBasedStateMachine):
    """One run: the mailboxes of one tenant, until they are purged."""

    ids: ClassVar[Iterator[int]] = count()
    runner: asyncio.Runner
    repositories: list[Repository]
    raw: Any

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize(policy=st.sampled_from(POLICIES))
    def begin(self, policy: LifecyclePolicy) -> None:
        Lifecycle.ids = count(1)
        self.world = World(self.repositories, self.raw, policy)
        self.aliases: list[Alias] = []
        self.forwardings: list[Forwarding] = []
        self.run(self.world.begin())

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.run(self.world.end())

    def pick(self, number: int) -> Mailbox | None:
        """One of the mailboxes, as it was when last read."""
        known = sorted(self.world.mailboxes.values(), key=lambda each: (each.email, each.id))
        return known[number % len(known)] if known else None

    # --- Time and workers ---------------------------------------------------------------------------------------------

    @rule(
        stride=st.sampled_from(STRIDES),
        workers=st.integers(min_value=1, max_value=2),
        crash_after=st.none() | st.integers(min_value=0, max_value=40),
    )
    def time_passes(self, stride: timedelta, workers: int, crash_after: int | None) -> None:
        async def pass_time() -> None:
            self.world.now += stride
            await self.world.work(workers, crash_after)
            await self.world.check()

        self.run(pass_time())

    @rule(back=st.sampled_from(SMALL_STEPS_BACK))
    def the_clock_is_set_back(self, back: timedelta) -> None:
        self.world.now -= back

    # --- Tenants ------------------------------------------------------------------------------------------------------

    @rule(
        domain=st.integers(0, 1),
        names=st.sets(st.sampled_from("abcde"), min_size=1, max_size=2),
        period=st.sampled_from([P.MONTHLY, P.YEARLY]),
    )
    def create(self, domain: int, names: set[str], period: SubscriptionPeriod) -> None:
        world = self.world
        batch = [mailbox(name, period=period, policy=world.policy, now=world.now) for name in sorted(names)]
        call = world.repository.mailboxes.create(world.tenant.context, world.domains[domain].id, batch)
        created = self.run(world.attempt(call))
        for mailbox_created in created if isinstance(created, list) else ():
            world.learn(mailbox_created)

    @rule(number=numbers)
    def delete(self, number: int) -> None:
        if chosen := self.pick(number):
            rule = partial(_delete, retention=self.world.policy.deletion_retention, now=self.world.now)
            self.learn(self.run(self.world.change(chosen, rule)))

    @rule(number=numbers)
    def restore(self, number: int) -> None:
        if (last := self.pick(number)) and (chosen := self.run(self.world.read(last.id))):
            now = self.world.now
            outcome = self.run(self.world.change(chosen, partial(restore_mailbox, policy=self.world.policy, now=now)))
            scheduled = chosen.deletion_scheduled_at
            in_time = chosen.status is M.DELETION_SCHEDULED and scheduled is not None and now < scheduled
            if isinstance(outcome, QuotaExceeded):
                assert in_time
                assert not chosen.counts_towards_quota
            else:
                assert isinstance(outcome, Mailbox) == in_time
                assert in_time or isinstance(outcome, PreconditionFailed)
            self.learn(outcome)

    @rule(number=numbers, period=st.sampled_from(sorted(P)))
    def subscribe(self, number: int, period: SubscriptionPeriod) -> None:
        if chosen := self.pick(number):
            update = partial(
                update_mailbox, period=period, new_password=False, policy=self.world.policy, now=self.world.now
            )
            self.learn(self.run(self.world.change(chosen, update)))

    @rule(number=numbers, local_part=st.sampled_from("abcde"))
    def add_alias(self, number: int, local_part: str) -> None:
        world = self.world
        if chosen := self.pick(number):
            make = partial(
                new_alias,
                alias_id=factories.new_id(),
                local_part=local_part,
                description="",
                policy=world.policy,
                now=world.now,
            )
            added = self.run(world.attempt(world.repository.aliases.create(world.tenant.context, chosen.id, make)))
            if isinstance(added, Alias):
                self.aliases.append(added)

    @rule(number=numbers)
    def remove_alias(self, number: int) -> None:
        world = self.world
        if self.aliases:
            chosen = self.aliases[number % len(self.aliases)]
            rule = partial(delete_alias, policy=world.policy, now=world.now)
            self.run(world.attempt(world.repository.aliases.delete(world.tenant.context, chosen.id, rule)))

    @rule(number=numbers, destination=st.sampled_from([f"{name}@{domain}" for name in "ab" for domain in DESTINATIONS]))
    def add_forwarding(self, number: int, destination: str) -> None:
        world = self.world
        if chosen := self.pick(number):
            make = partial(
                new_forwarding,
                forwarding_id=factories.new_id(),
                destination=destination,
                policy=world.policy,
                now=world.now,
            )
            call = world.repository.forwardings.create(world.tenant.context, chosen.id, destination, make)
            added = self.run(world.attempt(call))
            if isinstance(added, Forwarding):
                self.forwardings.append(added)

    @rule(number=numbers, destination=st.none() | st.sampled_from([f"{name}@elsewhere.test" for name in "abc"]))
    def change_or_remove_forwarding(self, number: int, destination: str | None) -> None:
        world = self.world
        if not self.forwardings:
            return
        chosen, forwardings = self.forwardings[number % len(self.forwardings)], world.repository.forwardings
        options: dict[str, Any] = {"policy": world.policy, "now": world.now}
        if destination is None:
            rule = partial(delete_forwarding, **options)
            self.run(world.attempt(forwardings.delete(world.tenant.context, chosen.id, rule)))
        else:
            redirect = partial(redirect_forwarding, destination=destination, **options)
            self.run(world.attempt(forwardings.redirect(world.tenant.context, chosen.id, destination, redirect)))

    @rule(number=numbers, keep_copy=st.booleans(), enabled=st.none() | st.booleans())
    def set_forwarding(self, number: int, keep_copy: bool, enabled: bool | None) -> None:
        world = self.world
        if chosen := self.pick(number):
            change = partial(change_settings, keep_copy=keep_copy, enabled=enabled, now=world.now)
            apply = partial(apply_settings, policy=world.policy, now=world.now)
            call = world.repository.forwardings.change_settings(world.tenant.context, chosen.id, change, apply)
            self.run(world.attempt(call))

    @rule(number=st.integers(0, 1), deleted=st.sampled_from([False, False, False, True]))
    def validate_or_delete_a_domain(self, number: int, deleted: bool) -> None:
        domain = self.world.domains[number]
        self.run(self.world.delete_domain(domain) if deleted else self.world.validate(domain))

    @rule(number=st.integers(0, 1), published=st.booleans())
    def publish_or_withdraw_a_token(self, number: int, published: bool) -> None:
        name = self.world.domains[number].name
        (self.world.tokenless.discard if published else self.world.tokenless.add)(name)

    # --- The operator -------------------------------------------------------------------------------------------------

    @rule(number=numbers, locked=st.booleans())
    def lock(self, number: int, locked: bool) -> None:
        if chosen := self.pick(number):
            lock = partial(lock_mailbox, reason="abuse") if locked else unlock_mailbox
            administration = self.world.repository.administration
            call = administration.change_mailbox(OPERATOR, chosen.id, partial(lock, now=self.world.now))
            self.learn(self.run(self.world.attempt(call)))

    @rule(number=numbers, paid=st.booleans())
    def settle_a_payment(self, number: int, paid: bool) -> None:
        async def settle_one() -> None:
            world = self.world
            if pending := await world.pending_payments():
                refuse = partial(refuse_payment, reason="no", policy=world.policy)
                settle = partial(confirm_payment if paid else refuse, now=world.now)
                await world.repository.administration.settle_payment(
                    OPERATOR, pending[number % len(pending)].id, settle
                )

        self.run(settle_one())

    @rule(number=numbers, done=st.booleans())
    def settle_a_provision(self, number: int, done: bool) -> None:
        async def settle_one() -> None:
            world = self.world
            if pending := await world.pending_provisions():
                settle = partial(confirm_provision if done else partial(fail_provision, reason="no"), now=world.now)
                await world.repository.administration.settle_provision(
                    OPERATOR, pending[number % len(pending)].id, settle
                )

        self.run(settle_one())

    def learn(self, outcome: object) -> None:
        """Update the model if a call returned a mailbox."""
        if isinstance(outcome, Mailbox):
            self.world.learn(outcome)


def _delete(stored: Mailbox, _status: object, *, retention: timedelta, now: Any) -> Mailbox:
    return delete_mailbox(stored, retention, now)


def run_lifecycles(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run EXAMPLES random lifecycles over the database with this URL."""
    # Sequential ids, which start again with each run, make every failure reproducible.
    monkeypatch.setattr(factories, "new_id", lambda: str(UUID(int=next(Lifecycle.ids))))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        repositories = [runner.run(open_repository(store)) for _ in range(2)]
        raw = create_async_engine(store)
        kind = type("Lifecycle", (Lifecycle,), {"runner": runner, "repositories": repositories, "raw": raw})
        try:
            run_state_machine_as_test(
                kind,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    phases=PHASES,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            for repository in repositories:
                runner.run(repository.close())
            runner.run(raw.dispose())
