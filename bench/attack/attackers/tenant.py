"""A tenant with a valid key that asks for far more than its share, and callers with invalid keys."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import grpc

from postroom.v1alpha1 import mailbox_pb2, mailbox_service_pb2_grpc

if TYPE_CHECKING:
    Stub: TypeAlias = mailbox_service_pb2_grpc.MailboxServiceAsyncStub  # in the type stubs alone
else:
    Stub: TypeAlias = mailbox_service_pb2_grpc.MailboxServiceStub

CALL_SECONDS = 30.0


async def password_batches(address: str, token: str, domain_id: str, concurrency: int = 8) -> None:
    """Create batches of 100 mailboxes without pause."""
    numbers = itertools.count()

    async def create(stub: Stub) -> None:
        prefix = f"attack{next(numbers)}"
        request = mailbox_pb2.BatchCreateMailboxesRequest(domain_id=domain_id)
        for number in range(100):
            request.mailboxes.add(local_part=f"{prefix}-{number}", password="a long enough password")  # noqa: S106
        await stub.BatchCreateMailboxes(request, metadata=[("x-auth-token", token)], timeout=CALL_SECONDS)

    await _repeat(address, create, concurrency)


async def searches(address: str, token: str, concurrency: int = 140) -> None:
    """Search for two letters, which no index serves."""
    pairs = itertools.cycle(a + b for a in "abcdefghij" for b in "aeiou")

    async def search(stub: Stub) -> None:
        request = mailbox_pb2.ListMailboxesRequest(search=next(pairs))
        await stub.ListMailboxes(request, metadata=[("x-auth-token", token)], timeout=CALL_SECONDS)

    await _repeat(address, search, concurrency)


async def invalid_keys(address: str, connections: int = 200) -> None:
    """Call over many connections, each call with another key that does not exist."""
    numbers = itertools.count(1)

    async def call(stub: Stub) -> None:
        token = f"00000000-0000-4000-8000-{next(numbers):012x}"
        await stub.ListMailboxes(mailbox_pb2.ListMailboxesRequest(), metadata=[("x-auth-token", token)], timeout=5)

    await asyncio.gather(*(_repeat(address, call, 4, number) for number in range(connections)))


async def _repeat(
    address: str, call: Callable[[Stub], Awaitable[None]], concurrency: int, channel_number: int = 0
) -> None:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.channel_number", channel_number)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = mailbox_service_pb2_grpc.MailboxServiceStub(channel)

        async def forever() -> None:
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call(stub)
                await asyncio.sleep(0)

        await asyncio.gather(*(forever() for _ in range(concurrency)))
