"""Fixtures: a small internet, and example.com in it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.support.dns_records import NAME
from tests.support.dns_server import Internet


@pytest.fixture
async def internet() -> AsyncIterator[Internet]:
    """Servers at 127.0.0.1 and 127.0.0.2 that are to serve example.com, and the resolver that says so."""
    async with AsyncExitStack() as cleanups:
        made = Internet(cleanups)
        await made.open()
        await made.delegate(NAME, "127.0.0.1", "127.0.0.2")
        yield made
