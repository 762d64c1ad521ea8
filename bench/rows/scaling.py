"""Two services on one PostgreSQL vs one, under load through two gateways, with the CPU use of each kind of process."""

import asyncio
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import monotonic

from bench.h2load import LoadShape, run_h2load
from bench.harness import Harness
from bench.measurements import Measurement, alternate, compare
from bench.process import Process
from bench.resource_usage import cpu_seconds
from bench.rest import mailboxes_target
from bench.rows.gateway import CONNECTIONS


@dataclass(frozen=True, slots=True)
class Run:
    """The total rate of both gateways, and the CPU cores used by each kind of process."""

    rate: float
    cores: dict[str, float]


async def run(harness: Harness) -> list[Measurement]:
    """GET of a mailbox through two gateways, connected to two services or both to the first one."""
    url = await harness.seeded(harness.parameters.medium)
    services = [await harness.service(url) for _ in range(2)]
    gateways = [await harness.gateway(service) for service in services]
    gateways_to_first = [await harness.gateway(services[0]) for _ in range(2)]
    two, one = await alternate(
        harness.parameters.runs,
        lambda: _load(harness, services, gateways),
        lambda: _load(harness, services[:1], gateways_to_first),
    )
    title = "GET mailbox over REST through two gateways: two services vs one"
    note = f"CPU cores used with two services: {_cores(two)}; with one: {_cores(one)}"
    return [compare(title, "req/s", [each.rate for each in two], [each.rate for each in one], note=note)]


async def _load(harness: Harness, services: Sequence[Process], gateways: Sequence[Process]) -> Run:
    shape = LoadShape(harness.parameters.run_seconds, connections=CONNECTIONS // len(gateways))
    pids = {
        "services": [service.pid for service in services],
        "gateways": [gateway.pid for gateway in gateways],
        "PostgreSQL": [await harness.databases.server_pid()],
    }
    targets = [await mailboxes_target(gateway, harness.parameters.medium) for gateway in gateways]
    before, h2load_before, started = _cpu_seconds(pids), _ended_children_cpu_seconds(), monotonic()
    loads = await asyncio.gather(*(run_h2load(target, shape) for target in targets))
    seconds = monotonic() - started
    cores = {kind: (used - before[kind]) / seconds for kind, used in _cpu_seconds(pids).items()}
    cores["h2load"] = (_ended_children_cpu_seconds() - h2load_before) / seconds
    return Run(sum(load.rate for load in loads), cores)


def _cpu_seconds(pids: dict[str, list[int]]) -> dict[str, float]:
    return {kind: sum(map(cpu_seconds, of_kind)) for kind, of_kind in pids.items()}


def _ended_children_cpu_seconds() -> float:
    """Return the CPU time of our ended children; during a run, only h2load ends."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _cores(runs: Sequence[Run]) -> str:
    kinds = runs[0].cores
    return ", ".join(f"{kind} {median(each.cores[kind] for each in runs):.2f}" for kind in kinds)
