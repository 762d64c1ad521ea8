"""Lives of mailboxes at random, on every engine: calls, a clock that jumps, workers that crash and workers at once.

`make soak` has many more of them.
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
from postroomd.domain.errors import PreconditionFailed
from postroomd.domain.mailboxes import delete_mailbox, lock_mailbox, restore_mailbox, unlock_mailbox, update_mailbox
from postroomd.domain.model import Alias, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.domain.payments import confirm_payment, refuse_payment
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import confirm_provision, fail_provision
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository
from tests.support import factories as made
from tests.support.factories import OPERATOR, mailbox
from tests.worker.random_lives.world import World

EXAMPLES = int(os.environ.get("POSTROOM_SOAK_EXAMPLES", "200"))
STEPS = 50
# To make a failure smaller takes minutes, which CI has not: a soak does, with the same seed.
PHASES = list(Phase) if "POSTROOM_SOAK_EXAMPLES" in os.environ else [Phase.reuse, Phase.generate]

M, P = MailboxStatus, SubscriptionPeriod

TERMS = [
    LifecyclePolicy(billing=billing, provisioning=platform) for billing in (False, True) for platform in (False, True)
]
STRIDES = [timedelta(0), timedelta(hours=5), timedelta(days=8), timedelta(days=31), timedelta(days=100)]
SMALL_STEPS_BACK = [timedelta(microseconds=1), timedelta(seconds=1), timedelta(minutes=5)]

which = st.integers(min_value=0, max_value=7)


class Life(RuleBasedStateMachine):
    """One life of one tenant's mailboxes."""

    ids: ClassVar[Iterator[int]] = count()
    runner: asyncio.Runner
    repositories: list[Repository]
    raw: Any

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize(policy=st.sampled_from(TERMS))
    def begin(self, policy: LifecyclePolicy) -> None:
        Life.ids = count(1)
        self.world = World(self.repositories, self.raw, policy)
        self.aliases: list[Alias] = []
        self.run(self.world.begin())

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.run(self.world.end())

    def some(self, number: int) -> Mailbox | None:
        """One of the mailboxes that are known, as it was when last seen."""
        known = sorted(self.world.living.values(), key=lambda each: (each.email, each.id))
        return known[number % len(known)] if known else None

    # --- Time and workers ---------------------------------------------------------------------------------------------

    @rule(
        stride=st.sampled_from(STRIDES),
        workers=st.integers(min_value=1, max_value=2),
        crash_after=st.none() | st.integers(min_value=0, max_value=40),
    )
    def time_passes(self, stride: timedelta, workers: int, crash_after: int | None) -> None:
        async def passing() -> None:
            self.world.now += stride
            await self.world.work(workers, crash_after)
            await self.world.look()

        self.run(passing())

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
        creating = world.repository.mailboxes.create(world.tenant.context, world.domains[domain].id, batch)

        created = self.run(world.attempt(creating))
        for one in created if isinstance(created, list) else ():
            world.learn(one)

    @rule(number=which)
    def delete(self, number: int) -> None:
        if chosen := self.some(number):
            deleting = partial(_delete, retention=self.world.policy.retention, now=self.world.now)
            self.changed(self.run(self.world.change(chosen, deleting)))

    @rule(number=which)
    def restore(self, number: int) -> None:
        if (seen := self.some(number)) and (chosen := self.run(self.world.found(seen.id))):
            now = self.world.now
            outcome = self.run(self.world.change(chosen, partial(restore_mailbox, policy=self.world.policy, now=now)))
            scheduled = chosen.deletion_scheduled_at
            in_time = chosen.status is M.DELETION_SCHEDULED and scheduled is not None and now < scheduled
            assert isinstance(outcome, Mailbox) == in_time
            assert in_time or isinstance(outcome, PreconditionFailed)
            self.changed(outcome)

    @rule(number=which, period=st.sampled_from(sorted(P)))
    def subscribe(self, number: int, period: SubscriptionPeriod) -> None:
        if chosen := self.some(number):
            update = partial(
                update_mailbox, period=period, new_password=False, policy=self.world.policy, now=self.world.now
            )
            self.changed(self.run(self.world.change(chosen, update)))

    @rule(number=which, local_part=st.sampled_from("abcde"))
    def add_alias(self, number: int, local_part: str) -> None:
        world = self.world
        if chosen := self.some(number):
            make = partial(
                new_alias,
                alias_id=made.new_id(),
                local_part=local_part,
                description="",
                policy=world.policy,
                now=world.now,
            )
            added = self.run(world.attempt(world.repository.aliases.create(world.tenant.context, chosen.id, make)))
            if isinstance(added, Alias):
                self.aliases.append(added)

    @rule(number=which)
    def remove_alias(self, number: int) -> None:
        world = self.world
        if self.aliases:
            chosen = self.aliases[number % len(self.aliases)]
            going = partial(delete_alias, policy=world.policy, now=world.now)
            self.run(world.attempt(world.repository.aliases.delete(world.tenant.context, chosen.id, going)))

    @rule(number=st.integers(0, 1), deleted=st.sampled_from([False, False, False, True]))
    def validate_or_delete_a_domain(self, number: int, deleted: bool) -> None:
        domain = self.world.domains[number]
        self.run(self.world.delete_domain(domain) if deleted else self.world.validate(domain))

    # --- The operator -------------------------------------------------------------------------------------------------

    @rule(number=which, locked=st.booleans())
    def lock(self, number: int, locked: bool) -> None:
        if chosen := self.some(number):
            lock = partial(lock_mailbox, reason="abuse") if locked else unlock_mailbox
            changing = partial(lock, now=self.world.now)
            self.changed(
                self.run(
                    self.world.attempt(
                        self.world.repository.administration.change_mailbox(OPERATOR, chosen.id, changing)
                    )
                ),
            )

    @rule(number=which, paid=st.booleans())
    def settle_a_payment(self, number: int, paid: bool) -> None:
        async def settling() -> None:
            world = self.world
            if unpaid := await world.unpaid():
                refuse = partial(refuse_payment, reason="no", policy=world.policy)
                settle = partial(confirm_payment if paid else refuse, now=world.now)
                await world.repository.administration.settle_payment(OPERATOR, unpaid[number % len(unpaid)].id, settle)

        self.run(settling())

    @rule(number=which, done=st.booleans())
    def settle_the_platforms_work(self, number: int, done: bool) -> None:
        async def settling() -> None:
            world = self.world
            if undone := await world.undone():
                settle = partial(confirm_provision if done else partial(fail_provision, reason="no"), now=world.now)
                await world.repository.administration.settle_provision(
                    OPERATOR, undone[number % len(undone)].id, settle
                )

        self.run(settling())

    def changed(self, outcome: object) -> None:
        """Take in what a call answered of a mailbox."""
        if isinstance(outcome, Mailbox):
            self.world.learn(outcome)


def _delete(stored: Mailbox, _status: object, *, retention: timedelta, now: Any) -> Mailbox:
    return delete_mailbox(stored, retention, now)


def live(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Live so many lives over a database, whose URL it is, and see that none breaks its word."""
    # Ids in a row, begun anew with each life: what is found once is found again.
    monkeypatch.setattr(made, "new_id", lambda: str(UUID(int=next(Life.ids))))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        repositories = [runner.run(open_repository(store)) for _ in range(2)]
        raw = create_async_engine(store)
        kind = type("Life", (Life,), {"runner": runner, "repositories": repositories, "raw": raw})
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
