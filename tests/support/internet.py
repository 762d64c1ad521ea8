"""Fixture: DNS servers for example.com."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.support.dns_records import NAME
from tests.support.dns_server import Internet


@pytest.fixture
async def internet() -> AsyncIterator[Internet]:
    """Authoritative servers of example.com at 127.0.0.1 and 127.0.0.2, and a resolver; no zone is published yet."""
    async with AsyncExitStack() as cleanups:
        servers = Internet(cleanups)
        await servers.open()
        await servers.delegate(NAME, "127.0.0.1", "127.0.0.2")
        yield servers
