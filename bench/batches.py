"""Batches of new mailboxes with unique addresses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from uuid import uuid4

from bench.harness import METADATA
from bench.seed import seeded_id
from postroom.v1alpha1 import mailbox_pb2

BATCH_SIZE = 100
CALL_TIMEOUT_SECONDS = 60.0
PASSWORD = "a long enough password"  # noqa: S105 - of benchmark mailboxes

_numbers = count()
_run = uuid4().hex[:8]


def new_batch(size: int = BATCH_SIZE) -> mailbox_pb2.BatchCreateMailboxesRequest:
    """Return a request for mailboxes whose addresses exist in no database."""
    return mailbox_pb2.BatchCreateMailboxesRequest(
        domain_id=seeded_id("domain"),
        mailboxes=[
            mailbox_pb2.BatchCreateMailboxesRequest.MailboxParameters(
                local_part=f"new.{_run}.{next(_numbers)}", password=PASSWORD
            )
            for _ in range(size)
        ],
    )


async def create_batch(stub: Any, size: int = BATCH_SIZE) -> None:
    """Create a batch. Raises AioRpcError."""
    await stub.BatchCreateMailboxes(new_batch(size), metadata=METADATA, timeout=CALL_TIMEOUT_SECONDS)


@asynccontextmanager
async def continuous_batches(stub: Any) -> AsyncIterator[None]:
    """Create one batch after another during the block."""

    async def create_forever() -> None:
        while True:
            await create_batch(stub)

    creating = asyncio.create_task(create_forever())
    try:
        yield
        if creating.done():
            creating.result()
    finally:
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
