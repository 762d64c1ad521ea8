"""The victim: another tenant's reads and writes over gRPC or REST, and what becomes of them.

To measure, an open loop: calls start at a fixed rate, whatever became of earlier ones, and their time counts from when
they were due. To test, a closed loop: a number of calls, a few at a time and with all the time they need, so that the
outcomes do not depend on the speed of the machine.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic

import aiohttp
import grpc

from postroom.v1alpha1 import mailbox_pb2, mailbox_service_pb2_grpc

RATE = 50  # calls per second
TIMEOUT_SECONDS = 2.0
PATIENT_SECONDS = 120.0  # the timeout of the closed loop: longer than a busy machine needs
CONCURRENCY = 4  # of the closed loop

Call = Callable[[], Awaitable[None]]


async def run(call: Call, seconds: float) -> dict[str, object]:
    """Make calls for some seconds. Returns counts by outcome, and latencies of successful calls in milliseconds."""
    outcomes: Counter[str] = Counter()
    latencies: list[float] = []
    started = monotonic()
    one = _recording(call, outcomes, latencies)
    tasks = []
    for number in range(int(seconds * RATE)):
        due = started + number / RATE
        await asyncio.sleep(due - monotonic())
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    return {"outcomes": dict(outcomes), "latencies": sorted(latencies)}


async def run_calls(call: Call, number: int) -> dict[str, object]:
    """Make a number of calls, CONCURRENCY at a time. Returns counts by outcome."""
    outcomes: Counter[str] = Counter()
    one = _recording(call, outcomes, [])
    remaining = iter(range(number))

    async def several() -> None:
        for _ in remaining:
            await one(monotonic())

    await asyncio.gather(*(several() for _ in range(CONCURRENCY)))
    return {"outcomes": dict(outcomes)}


def _recording(
    call: Call, outcomes: Counter[str], latencies: list[float]
) -> Callable[[float], Coroutine[None, None, None]]:
    """Return a function that makes one call, due at a time of `monotonic`, and records what becomes of it."""

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

    return one


class _UnexpectedStatus(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


def grpc_calls(
    channel: grpc.aio.Channel, token: str, mailbox_id: str, timeout_seconds: float = TIMEOUT_SECONDS
) -> Call:
    """Return a call that is in turn a read, a list, a read and a write."""
    stub = mailbox_service_pb2_grpc.MailboxServiceStub(channel)
    metadata, periods = [("x-auth-token", token)], itertools.cycle(["MONTHLY", "YEARLY"])

    async def read() -> None:
        request = mailbox_pb2.GetMailboxRequest(mailbox_id=mailbox_id)
        await stub.GetMailbox(request, metadata=metadata, timeout=timeout_seconds)

    async def page() -> None:
        request = mailbox_pb2.ListMailboxesRequest(page_size=10)
        await stub.ListMailboxes(request, metadata=metadata, timeout=timeout_seconds)

    async def write() -> None:
        period = mailbox_pb2.Mailbox.SubscriptionPeriod.Value(next(periods))
        request = mailbox_pb2.UpdateMailboxRequest(mailbox_id=mailbox_id, subscription_period=period)
        await stub.UpdateMailbox(request, metadata=metadata, timeout=timeout_seconds)

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


async def main(protocol: str, address: str, token: str, mailbox_id: str, seconds: float, calls: int) -> None:
    """Run as a process of its own, and print the result as JSON: `calls` in a closed loop, or else an open one."""
    timeout_seconds = PATIENT_SECONDS if calls else TIMEOUT_SECONDS
    async with contextlib.AsyncExitStack() as stack:
        if protocol == "grpc":
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            await asyncio.wait_for(channel.channel_ready(), 10 if seconds else PATIENT_SECONDS)
            call = grpc_calls(channel, token, mailbox_id, timeout_seconds)
        else:
            # A new connection for each request: a client that arrives during the attack must get in.
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            timeout = aiohttp.ClientTimeout(total=timeout_seconds)
            session = aiohttp.ClientSession(connector=connector, timeout=timeout)
            await stack.enter_async_context(session)
            call = rest_calls(session, f"http://{address}", token, mailbox_id)
        result = await (run_calls(call, calls) if calls else run(call, seconds))
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.attack.victim", description=__doc__)
    for name in ("protocol", "address", "token", "mailbox_id"):
        parser.add_argument(name)
    parser.add_argument("--seconds", type=float, default=0.0, help="length of the open loop")
    parser.add_argument("--calls", type=int, default=0, help="number of calls of the closed loop")
    asyncio.run(main(**vars(parser.parse_args())))
