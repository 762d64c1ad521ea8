"""The DNS of the operator's domains: a name server and a resolver on loopback, in a thread."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from tests.support.dns_server import RESOLVER, Internet

NAME_SERVER = "127.0.0.2"
START_SECONDS = 30


class Names:
    """A DNS provider, to whose panel an operator copies a zone."""

    def __init__(self, internet: Internet, loop: asyncio.AbstractEventLoop) -> None:
        self._internet = internet
        self._loop = loop

    @property
    def settings(self) -> dict[str, str]:
        """The settings by which a worker finds these servers instead of the Internet's."""
        return {
            "POSTROOM_DNS_RESOLVERS": f"{RESOLVER}:{self._internet.port}",
            "POSTROOM_DNS_AUTHORITATIVE_PORT": str(self._internet.port),
            "POSTROOM_DNS_ALLOW_PRIVATE": "true",
        }

    def publish(self, name: str, zone: str) -> None:
        """Serve the records of a domain, in the form of a zone file."""

        async def publish() -> None:
            await self._internet.delegate(name, NAME_SERVER)
            self._internet.publish(name, zone)

        asyncio.run_coroutine_threadsafe(publish(), self._loop).result(START_SECONDS)


@contextmanager
def name_servers() -> Iterator[Names]:
    """Serve names during the block."""
    loop = asyncio.new_event_loop()
    started: list[Internet] = []
    ready, stopping = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with AsyncExitStack() as cleanups:
            internet = Internet(cleanups)
            await internet.open()
            started.append(internet)
            ready.set()
            await stopping.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(START_SECONDS)
        yield Names(started[0], loop)
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()
