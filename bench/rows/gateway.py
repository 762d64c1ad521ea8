"""GET of a mailbox through gateway and service vs a bare HTTP server in front of a bare gRPC server."""

from bench.h2load import LoadShape, run_h2load
from bench.harness import Harness
from bench.measurements import Measurement, alternate, at_least, compare
from bench.process import Process
from bench.rest import mailboxes_target

CONNECTIONS = 32


async def run(harness: Harness) -> list[Measurement]:
    """One service and one gateway on 100,000 mailboxes."""
    size = harness.parameters.medium
    url = await harness.seeded(size)

    async def product() -> float:
        service = await harness.service(url)
        return await measure(service, await harness.gateway(service))

    async def baseline() -> float:
        service = await harness.baseline_service()
        return await measure(service, await harness.baseline_gateway(service))

    async def measure(service: Process, gateway: Process) -> float:
        target = await mailboxes_target(gateway, size)
        load = await run_h2load(target, LoadShape(harness.parameters.run_seconds, connections=CONNECTIONS))
        await gateway.kill()
        await service.kill()
        return load.rate

    rates, baselines = await alternate(harness.parameters.process_runs, product, baseline)
    return [compare(f"GET mailbox over REST, {size:,} mailboxes", "req/s", rates, baselines, at_least(0.70))]
