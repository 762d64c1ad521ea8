"""GetMailbox over gRPC and GET through the gateway with TLS, beside the same in plain text.

h2load does not verify certificates, which costs a client once per connection; connections are kept throughout a run.
"""

from collections.abc import Sequence
from functools import partial

from bench.h2load import GrpcTarget, HttpTarget, LoadShape, run_h2load
from bench.harness import METADATA, RPC_PREFIX, Harness
from bench.measurements import Measurement, alternate, compare
from bench.process import Process
from bench.rest import mailboxes_target
from bench.rows.gateway import CONNECTIONS
from bench.seed import SECRET, seeded_id
from bench.tls import Certificates, issue
from postroom.v1alpha1 import mailbox_pb2


async def run(harness: Harness) -> list[Measurement]:
    """One service, and one service with one gateway, on 100,000 mailboxes; TLS on every connection, or on none."""
    size = harness.parameters.medium
    url = await harness.seeded(size)
    certificates = issue(harness.directory)
    runs = harness.parameters.process_runs
    encrypted, plain = await alternate(
        runs, partial(_grpc, harness, url, certificates), partial(_grpc, harness, url, None)
    )
    through, in_clear = await alternate(
        runs, partial(_rest, harness, url, size, certificates), partial(_rest, harness, url, size, None)
    )
    return [
        _compare(f"GetMailbox over gRPC, {size:,} mailboxes: TLS vs plain text", encrypted, plain),
        _compare(f"GET mailbox over REST, {size:,} mailboxes: TLS vs plain text", through, in_clear),
    ]


def _compare(title: str, rates: Sequence[float], baselines: Sequence[float]) -> Measurement:
    return compare(title, "req/s", rates, baselines)


async def _grpc(harness: Harness, url: str, certificates: Certificates | None) -> float:
    service = await harness.service(url, **(certificates.service if certificates else {}))
    request = mailbox_pb2.GetMailboxRequest(mailbox_id=seeded_id("mailbox"))
    scheme = "https" if certificates else "http"
    response = await harness.stub(service, certificates).GetMailbox(request, metadata=METADATA)
    target = GrpcTarget(service.address, f"{RPC_PREFIX}/GetMailbox", request, response, SECRET, scheme)
    return await _measure(target, LoadShape(harness.parameters.run_seconds), service)


async def _rest(harness: Harness, url: str, size: int, certificates: Certificates | None) -> float:
    service = await harness.service(url, **(certificates.service if certificates else {}))
    gateway = await harness.gateway(service, **(certificates.gateway if certificates else {}))
    context = certificates.client_context() if certificates else None
    target = await mailboxes_target(gateway, size, context=context)
    shape = LoadShape(harness.parameters.run_seconds, connections=CONNECTIONS)
    return await _measure(target, shape, gateway, service)


async def _measure(target: GrpcTarget | HttpTarget, shape: LoadShape, *processes: Process) -> float:
    load = await run_h2load(target, shape)
    for process in processes:
        await process.kill()
    return load.rate
