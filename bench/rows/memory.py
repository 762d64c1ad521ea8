"""The memory of service and gateway under mixed load: how much, and whether it still grows."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from time import monotonic
from typing import Any

import aiohttp

from bench.batches import create
from bench.figures import Figure, at_most
from bench.process import Process
from bench.rest import spread_ids
from bench.seed import RARE, seeded_id
from bench.stand import METADATA, PREFIX, Stand
from bench.usage import resident_mb
from postroom.v1alpha1 import mailbox_pb2

CALLERS = 8  # over gRPC, and as many over REST
SAMPLE_SECONDS = 1.0

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Mix:
    """What is called, each as often as its weight says."""

    calls: tuple[Call, ...]
    weights: tuple[int, ...]

    async def until(self, deadline: float, random: Random) -> int:
        """Call one after the other until then. Answers how often. Raises what a call raises."""
        done = 0
        while monotonic() < deadline:
            (call,) = random.choices(self.calls, self.weights)
            await call()
            done += 1
        return done


async def run(stand: Stand) -> list[Figure]:
    """One service and one gateway on 1,000,000 mailboxes."""
    count, seconds = stand.plan.large, stand.plan.memory_seconds
    service = await stand.service(await stand.copy(count))
    gateway = await stand.gateway(service)
    random = Random(count)  # noqa: S311 - the same load every time
    deadline = monotonic() + seconds
    async with aiohttp.ClientSession(f"http://{gateway.address}", headers=dict(METADATA)) as session:
        mixes = (_grpc(stand.stub(service), count, random), _rest(session, count, random))
        async with asyncio.TaskGroup() as tasks:
            callers = [tasks.create_task(mix.until(deadline, random)) for mix in mixes for _ in range(CALLERS)]
            watches = [tasks.create_task(_watch(process, deadline)) for process in (service, gateway)]
    note = f"{sum(caller.result() for caller in callers):,} calls in {seconds:g} s"
    of_service, of_gateway = (watch.result() for watch in watches)
    after = f"after {seconds / 60:.3g} minutes of mixed load, {count:,} mailboxes"
    return [
        Figure(what=f"service {after}", unit="MB", value=of_service[-1], target=at_most(130), note=note),
        Figure(
            what=f"service {after}: growth in the last half", unit="MB", value=_growth(of_service), target=at_most(5)
        ),
        Figure(what=f"gateway {after}", unit="MB", value=of_gateway[-1], target=at_most(90)),
        Figure(what=f"gateway {after}: growth in the last half", unit="MB", value=_growth(of_gateway)),
    ]


def _grpc(stub: Any, count: int, random: Random) -> Mix:
    ids = spread_ids(count)
    period = mailbox_pb2.Mailbox.SubscriptionPeriod

    def get() -> Awaitable[object]:
        return _call(stub.GetMailbox, mailbox_pb2.GetMailboxRequest(mailbox_id=random.choice(ids)))

    def page() -> Awaitable[object]:
        request = mailbox_pb2.ListMailboxesRequest(page=random.randrange(1, 20), page_size=100)
        return _call(stub.ListMailboxes, request)

    def update() -> Awaitable[object]:
        new = random.choice((period.MONTHLY, period.YEARLY))
        request = mailbox_pb2.UpdateMailboxRequest(mailbox_id=random.choice(ids), subscription_period=new)
        return _call(stub.UpdateMailbox, request)

    return Mix((get, page, update, lambda: create(stub, 2)), (80, 10, 8, 2))


def _rest(session: aiohttp.ClientSession, count: int, random: Random) -> Mix:
    ids = spread_ids(count)
    domain = f"{PREFIX}/domains/{seeded_id('domain')}"

    def mailbox() -> Awaitable[object]:
        return _get(session, f"{PREFIX}/mailboxes/{random.choice(ids)}")

    def page() -> Awaitable[object]:
        return _get(session, f"{PREFIX}/mailboxes?page_size=100&order_by=email_asc&page={random.randrange(1, 20)}")

    def aliases() -> Awaitable[object]:
        return _get(session, f"{PREFIX}/aliases?mailbox_id={random.choice(ids)}")

    calls = (mailbox, page, aliases, lambda: _get(session, f"{PREFIX}/mailboxes?search={RARE}"))
    return Mix((*calls, lambda: _get(session, domain)), (70, 10, 10, 5, 5))


async def _call(method: Any, request: object) -> object:
    return await method(request, metadata=METADATA, timeout=60)


async def _get(session: aiohttp.ClientSession, path: str) -> object:
    async with session.get(path, raise_for_status=True) as answer:
        return await answer.read()


async def _watch(process: Process, deadline: float) -> list[float]:
    """The process's memory, a sample a second."""
    seen = [resident_mb(process.pid)]
    while monotonic() < deadline:
        await asyncio.sleep(SAMPLE_SECONDS)
        seen.append(resident_mb(process.pid))
    return seen


def _growth(samples: list[float]) -> float:
    return samples[-1] - samples[len(samples) // 2]
