"""The victim: another tenant's reads and writes at a fixed rate, over gRPC or REST, and what becomes of them.

An open loop: calls start when they are due, whatever became of earlier ones, and their time counts from then.
"""

import asyncio
import contextlib
import itertools
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from time import monotonic

import aiohttp
import grpc

from postroom.v1alpha1 import mailbox_pb2, mailbox_service_pb2_grpc

RATE = 50  # calls per second
TIMEOUT_SECONDS = 2.0

Call = Callable[[], Awaitable[None]]


async def run(call: Call, seconds: float) -> dict[str, object]:
    """Make calls for some seconds. Returns counts by outcome, and latencies of successful calls in milliseconds."""
    outcomes: Counter[str] = Counter()
    latencies: list[float] = []
    started = monotonic()

    async def one(due: float) -> None:
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            outcomes[error.code().name] += 1
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            outcomes[type(error).__name__] += 1
        except _UnexpectedStatus as error:
            outcomes[f"HTTP {error.status}"] += 1
        else:
            outcomes["OK"] += 1
            latencies.append(1_000 * (monotonic() - due))

    tasks = []
    for number in range(int(seconds * RATE)):
        due = started + number / RATE
        await asyncio.sleep(due - monotonic())
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    return {"outcomes": dict(outcomes), "latencies": sorted(latencies)}


class _UnexpectedStatus(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


def grpc_calls(channel: grpc.aio.Channel, token: str, mailbox_id: str) -> Call:
    """Return a call that is in turn a read, a list, a read and a write."""
    stub = mailbox_service_pb2_grpc.MailboxServiceStub(channel)
    metadata, periods = [("x-auth-token", token)], itertools.cycle(["MONTHLY", "YEARLY"])

    async def read() -> None:
        request = mailbox_pb2.GetMailboxRequest(mailbox_id=mailbox_id)
        await stub.GetMailbox(request, metadata=metadata, timeout=TIMEOUT_SECONDS)

    async def page() -> None:
        request = mailbox_pb2.ListMailboxesRequest(page_size=10)
        await stub.ListMailboxes(request, metadata=metadata, timeout=TIMEOUT_SECONDS)

    async def write() -> None:
        period = mailbox_pb2.Mailbox.SubscriptionPeriod.Value(next(periods))
        request = mailbox_pb2.UpdateMailboxRequest(mailbox_id=mailbox_id, subscription_period=period)
        await stub.UpdateMailbox(request, metadata=metadata, timeout=TIMEOUT_SECONDS)

    turns = itertools.cycle([read, page, read, write])
    return lambda: next(turns)()


def rest_calls(session: aiohttp.ClientSession, base: str, token: str, mailbox_id: str) -> Call:
    """Return a call that is in turn a read, a list, a probe and a write, over REST."""
    headers, periods = {"X-Auth-Token": token}, itertools.cycle(["monthly", "yearly"])
    path = f"{base}/mailbox/v1alpha1/mailboxes"

    async def request(method: str, url: str, **options: object) -> None:
        async with session.request(method, url, **options) as response:  # type: ignore[arg-type]
            await response.read()
            if response.status != 200:
                raise _UnexpectedStatus(response.status)

    def patch() -> Awaitable[None]:
        body = {"subscription_period": next(periods)}
        return request("PATCH", f"{path}/{mailbox_id}", headers=headers, json=body)

    turns: itertools.cycle[Call] = itertools.cycle(
        [
            lambda: request("GET", f"{path}/{mailbox_id}", headers=headers),
            lambda: request("GET", f"{path}?page_size=10", headers=headers),
            lambda: request("GET", f"{base}/readyz"),
            patch,
        ]
    )
    return lambda: next(turns)()


async def main(protocol: str, address: str, token: str, mailbox_id: str, seconds: float) -> None:
    """Run as a process of its own, and print the result as JSON."""
    async with contextlib.AsyncExitStack() as stack:
        if protocol == "grpc":
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            await asyncio.wait_for(channel.channel_ready(), 10)
            call = grpc_calls(channel, token, mailbox_id)
        else:
            # A new connection for each request: a client that arrives during the attack must get in.
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            session = aiohttp.ClientSession(connector=connector, timeout=timeout)
            await stack.enter_async_context(session)
            call = rest_calls(session, f"http://{address}", token, mailbox_id)
        result = await run(call, seconds)
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5])))
