"""Two services on one PostgreSQL beside one, under load from two gateways; and which processes had the processors."""

import asyncio
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import monotonic

from bench.figures import Figure, compared, in_turns
from bench.h2load import Shape, press
from bench.process import Process
from bench.rest import mailboxes
from bench.rows.gateway import CONNECTIONS
from bench.stand import Stand
from bench.usage import processor_seconds


@dataclass(frozen=True, slots=True)
class Loaded:
    """What both gateways answered together, and the processors that each kind of process had meanwhile."""

    rate: float
    processors: dict[str, float]


async def run(stand: Stand) -> list[Figure]:
    """GET of one mailbox through both gateways, which lead to two services, or to the first alone."""
    url = await stand.seeded(stand.plan.middle)
    services = [await stand.service(url) for _ in range(2)]
    gateways = [await stand.gateway(service) for service in services]
    both_to_one = [await stand.gateway(services[0]) for _ in range(2)]
    two, one = await in_turns(
        stand.plan.runs,
        lambda: _load(stand, services, gateways),
        lambda: _load(stand, services[:1], both_to_one),
    )
    what = "GET a mailbox through two gateways to two services, beside one service"
    note = f"processors busy with two: {_shares(two)}; with one: {_shares(one)}"
    return [compared(what, "req/s", [seen.rate for seen in two], [seen.rate for seen in one], note=note)]


async def _load(stand: Stand, services: Sequence[Process], gateways: Sequence[Process]) -> Loaded:
    shape = Shape(stand.plan.seconds, connections=CONNECTIONS // len(gateways))
    server = await stand.databases.server_pid()
    kinds = {
        "services": [service.pid for service in services],
        "gateways": [gateway.pid for gateway in gateways],
        "PostgreSQL": [server],
    }
    targets = [await mailboxes(gateway, stand.plan.middle) for gateway in gateways]
    before, h2load_before, started = _used(kinds), _ended_children(), monotonic()
    loads = await asyncio.gather(*(press(target, shape) for target in targets))
    seconds = monotonic() - started
    processors = {kind: (used - before[kind]) / seconds for kind, used in _used(kinds).items()}
    processors["h2load"] = (_ended_children() - h2load_before) / seconds
    return Loaded(sum(load.rate for load in loads), processors)


def _used(kinds: dict[str, list[int]]) -> dict[str, float]:
    return {kind: sum(map(processor_seconds, pids)) for kind, pids in kinds.items()}


def _ended_children() -> float:
    """The processor time of our children that have ended: of h2load, as long as nothing else ends."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _shares(runs: Sequence[Loaded]) -> str:
    kinds = runs[0].processors
    return ", ".join(f"{kind} {median(seen.processors[kind] for seen in runs):.2f}" for kind in kinds)
