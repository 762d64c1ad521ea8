"""Batches of new mailboxes, whose addresses nothing else has."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from uuid import uuid4

from bench.seed import seeded_id
from bench.stand import METADATA
from postroom.v1alpha1 import mailbox_pb2

BATCH = 100
CALL_SECONDS = 60.0
PASSWORD = "a long enough password"  # noqa: S105 - of mailboxes that nobody reads

_numbers = count()
_run = uuid4().hex[:8]


def batch(size: int = BATCH) -> mailbox_pb2.BatchCreateMailboxesRequest:
    """A batch that no database has yet."""
    return mailbox_pb2.BatchCreateMailboxesRequest(
        domain_id=seeded_id("domain"),
        mailboxes=[
            mailbox_pb2.BatchCreateMailboxesRequest.MailboxParameters(
                local_part=f"new.{_run}.{next(_numbers)}", password=PASSWORD
            )
            for _ in range(size)
        ],
    )


async def create(stub: Any, size: int = BATCH) -> None:
    """Create a batch. Raises AioRpcError."""
    await stub.BatchCreateMailboxes(batch(size), metadata=METADATA, timeout=CALL_SECONDS)


@asynccontextmanager
async def without_pause(stub: Any) -> AsyncIterator[None]:
    """Create one batch after the other meanwhile."""

    async def forever() -> None:
        while True:
            await create(stub)

    creating = asyncio.create_task(forever())
    try:
        yield
        if creating.done():
            creating.result()
    finally:
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
