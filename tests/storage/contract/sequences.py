"""Random concurrent operations of several callers and the worker."""

import random
from asyncio import gather
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.aliases import delete_alias
from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import PostroomError
from postroomd.domain.forwardings import delete_forwarding, new_forwarding, redirect_forwarding
from postroomd.domain.mailboxes import delete_mailbox, restore_mailbox, update_mailbox
from postroomd.domain.model import Alias, Domain, DomainStatus, Forwarding, Mailbox, SubscriptionPeriod
from postroomd.storage.protocols.repository import Repository
from postroomd.worker.probers import TrustingProber
from postroomd.worker.steps import Worker
from tests.support.database_state import check_invariants
from tests.support.factories import NOW, Tenant, alias, mailbox, new_domain, new_id, new_tenant
from tests.support.lifecycle import FREE, RETENTION
from tests.support.worker import drain

NAMES = [f"{letter}{number}" for letter in "abc" for number in range(4)]


@dataclass
class Callers:
    """Several tenants, and the random operations that they call."""

    repository: Repository
    rng: random.Random
    tenants: list[Tenant]
    now: datetime = NOW
    domains: list[tuple[Tenant, Domain]] = field(default_factory=list)
    mailboxes: list[tuple[Tenant, Mailbox]] = field(default_factory=list)
    aliases: list[tuple[Tenant, Alias]] = field(default_factory=list)
    forwardings: list[tuple[Tenant, Forwarding]] = field(default_factory=list)

    async def register(self) -> None:
        tenant = self.rng.choice(self.tenants)
        status = self.rng.choice([DomainStatus.WAITING_VALIDATION, DomainStatus.READY])
        name = f"{self.rng.randrange(3)}.{tenant.organization.id[:8]}.test"
        self.domains.append((tenant, await new_domain(self.repository, tenant, name, status, now=self.now)))

    async def validate(self) -> None:
        tenant, of = self.rng.choice(self.domains)
        rule = partial(begin_validation, now=self.now)
        await self.repository.domains.begin_validation(tenant.context, of.id, rule, self.now)

    async def create(self) -> None:
        tenant, domain = self.rng.choice(self.domains)
        names = self.rng.sample(NAMES, self.rng.randint(1, 3))
        batch = [mailbox(name, now=self.now) for name in names]
        created = await self.repository.mailboxes.create(tenant.context, domain.id, batch)
        self.mailboxes += [(tenant, one) for one in created]

    async def add_alias(self) -> None:
        tenant, of = self.rng.choice(self.mailboxes)
        make = partial(alias, local_part=self.rng.choice(NAMES), now=self.now, alias_id=new_id())
        self.aliases.append((tenant, await self.repository.aliases.create(tenant.context, of.id, make)))

    async def remove_alias(self) -> None:
        tenant, one = self.rng.choice(self.aliases)
        rule = partial(delete_alias, policy=FREE, now=self.now)
        await self.repository.aliases.delete(tenant.context, one.id, rule)

    def destination(self, of: Mailbox) -> str:
        return f"{self.rng.choice(NAMES)}@{self.rng.choice([of.address.domain_name, 'elsewhere.example'])}"

    async def add_forwarding(self) -> None:
        tenant, of = self.rng.choice(self.mailboxes)
        to = self.destination(of)
        make = partial(new_forwarding, forwarding_id=new_id(), destination=to, policy=FREE, now=self.now)
        self.forwardings.append((tenant, await self.repository.forwardings.create(tenant.context, of.id, to, make)))

    async def change_forwarding(self) -> None:
        tenant, one = self.rng.choice(self.forwardings)
        if self.rng.random() < 0.3:
            delete = partial(delete_forwarding, policy=FREE, now=self.now)
            await self.repository.forwardings.delete(tenant.context, one.id, delete)
            return
        to = f"{self.rng.choice(NAMES)}@elsewhere.example"
        redirect = partial(redirect_forwarding, destination=to, policy=FREE, now=self.now)
        await self.repository.forwardings.redirect(tenant.context, one.id, to, redirect)

    async def change(self) -> None:
        tenant, one = self.rng.choice(self.mailboxes)
        now, period = self.now, self.rng.choice(list(SubscriptionPeriod))
        rule = self.rng.choice(
            [
                lambda stored, _: delete_mailbox(stored, RETENTION, now),
                lambda stored, status: restore_mailbox(stored, status, FREE, now),
                lambda stored, status: update_mailbox(
                    stored, status, period=period, new_password=False, policy=FREE, now=now
                ),
            ]
        )
        await self.repository.mailboxes.change(tenant.context, one.id, rule)

    async def remove(self) -> None:
        tenant, of = self.rng.choice(self.domains)
        if self.rng.random() < 0.3:
            rule = partial(delete_domain, force=True, now=self.now)
            await self.repository.domains.delete(tenant.context, of.id, rule, self.now)

    async def work(self) -> None:
        worker = Worker(work=self.repository.work, prober=TrustingProber(), policy=FREE)
        await drain(worker, self.now)

    def choose(self) -> Callable[[], Awaitable[None]]:
        """Return a random operation."""
        operations: list[Callable[[], Awaitable[None]]] = [
            *[self.create] * 4,
            *[self.change] * 4,
            *[self.add_alias] * 3,
            self.remove_alias,
            *[self.add_forwarding] * 3,
            self.change_forwarding,
            self.register,
            self.validate,
            self.remove,
            self.work,
        ]
        return self.rng.choice(operations)

    async def run(self, operation: Callable[[], Awaitable[None]]) -> str:
        """Run an operation, and return its outcome. Domain errors are expected outcomes."""
        try:
            await operation()
        except IndexError:  # there is nothing to choose from yet
            return "nothing"
        except PostroomError as error:
            return type(error).__name__
        return "done"


class SequencesContract:
    """What holds after any sequence of operations."""

    @pytest.mark.parametrize("seed", range(4))
    async def test_every_count_equals_its_recount_after_random_operations(
        self, repository: Repository, raw: AsyncEngine, seed: int
    ) -> None:
        tenants = [await new_tenant(repository, quota=quota) for quota in (6, 40)]
        callers = Callers(repository, random.Random(seed), tenants)
        for _ in range(3):
            await callers.run(callers.register)
        outcomes: list[str] = []
        for _ in range(20):
            callers.now += timedelta(days=callers.rng.choice([0, 1, 9, 31]))
            outcomes += await gather(*(callers.run(callers.choose()) for _ in range(4)))
            await check_invariants(raw)
        assert set(outcomes) <= {
            "done",
            "nothing",
            "NameTaken",
            "QuotaExceeded",
            "NotFound",
            "PreconditionFailed",
            "TransientState",
            "InvalidArguments",
        }
        assert outcomes.count("done") > 20
        await callers.work()
        await check_invariants(raw)
