"""Resident memory of service and gateway under mixed load, and its growth."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from time import monotonic
from typing import Any

import aiohttp

from bench.batches import create_batch
from bench.harness import METADATA, PREFIX, Harness
from bench.measurements import Measurement, at_most
from bench.process import Process
from bench.resource_usage import resident_mb
from bench.rest import sample_ids
from bench.seed import RARE, seeded_id
from postroom.v1alpha1 import mailbox_pb2

CLIENTS = 8  # over gRPC, and as many over REST
SAMPLE_SECONDS = 1.0

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Mix:
    """Calls, each made with a probability proportional to its weight."""

    calls: tuple[Call, ...]
    weights: tuple[int, ...]

    async def run_until(self, deadline: float, random: Random) -> int:
        """Make one call after another. Returns their number. Raises the first error of a call."""
        count = 0
        while monotonic() < deadline:
            (call,) = random.choices(self.calls, self.weights)
            await call()
            count += 1
        return count


async def run(harness: Harness) -> list[Measurement]:
    """One service and one gateway on 1,000,000 mailboxes."""
    size, seconds = harness.parameters.large, harness.parameters.memory_seconds
    service = await harness.service(await harness.copy(size))
    gateway = await harness.gateway(service)
    random = Random(size)  # noqa: S311 - a fixed seed: the same load in each run
    deadline = monotonic() + seconds
    async with aiohttp.ClientSession(f"http://{gateway.address}", headers=dict(METADATA)) as session:
        mixes = (_grpc_mix(harness.stub(service), size, random), _rest_mix(session, size, random))
        async with asyncio.TaskGroup() as tasks:
            clients = [tasks.create_task(mix.run_until(deadline, random)) for mix in mixes for _ in range(CLIENTS)]
            samplers = [tasks.create_task(_sample_memory(process, deadline)) for process in (service, gateway)]
    note = f"{sum(client.result() for client in clients):,} calls in {seconds:g} s"
    service_samples, gateway_samples = (sampler.result() for sampler in samplers)
    load = f"{seconds / 60:.3g} min of mixed load, {size:,} mailboxes"
    return [
        Measurement(
            title=f"service memory after {load}", unit="MB", value=service_samples[-1], target=at_most(130), note=note
        ),
        Measurement(
            title=f"service memory growth in the second half of {load}",
            unit="MB",
            value=_growth(service_samples),
            target=at_most(5),
        ),
        Measurement(title=f"gateway memory after {load}", unit="MB", value=gateway_samples[-1], target=at_most(90)),
        Measurement(
            title=f"gateway memory growth in the second half of {load}", unit="MB", value=_growth(gateway_samples)
        ),
    ]


def _grpc_mix(stub: Any, size: int, random: Random) -> Mix:
    ids = sample_ids(size)
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

    return Mix((get, page, update, lambda: create_batch(stub, 2)), (80, 10, 8, 2))


def _rest_mix(session: aiohttp.ClientSession, size: int, random: Random) -> Mix:
    ids = sample_ids(size)

    def mailbox() -> Awaitable[object]:
        return _get(session, f"{PREFIX}/mailboxes/{random.choice(ids)}")

    def page() -> Awaitable[object]:
        return _get(session, f"{PREFIX}/mailboxes?page_size=100&order_by=email_asc&page={random.randrange(1, 20)}")

    def aliases() -> Awaitable[object]:
        return _get(session, f"{PREFIX}/aliases?mailbox_id={random.choice(ids)}")

    def search() -> Awaitable[object]:
        return _get(session, f"{PREFIX}/mailboxes?search={RARE}")

    def domain() -> Awaitable[object]:
        return _get(session, f"{PREFIX}/domains/{seeded_id('domain')}")

    return Mix((mailbox, page, aliases, search, domain), (70, 10, 10, 5, 5))


async def _call(method: Any, request: object) -> object:
    return await method(request, metadata=METADATA, timeout=60)


async def _get(session: aiohttp.ClientSession, path: str) -> object:
    async with session.get(path, raise_for_status=True) as response:
        return await response.read()


async def _sample_memory(process: Process, deadline: float) -> list[float]:
    """Return the process's memory in megabytes, sampled once per second."""
    samples = [resident_mb(process.pid)]
    while monotonic() < deadline:
        await asyncio.sleep(SAMPLE_SECONDS)
        samples.append(resident_mb(process.pid))
    return samples


def _growth(samples: list[float]) -> float:
    return samples[-1] - samples[len(samples) // 2]
