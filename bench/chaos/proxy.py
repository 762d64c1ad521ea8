"""A TCP proxy on loopback that loses answers: it lets a request pass, holds what comes back, and hangs up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK = 65_536
PATIENCE_SECONDS = 10.0


class Proxy:
    """Stands between a client and `upstream`, HOST:PORT."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._holding = asyncio.Event()
        self._asked = b""
        self._marker = b""
        self._marker_held = asyncio.Event()
        self._held: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self.address = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Proxy"]:
        """Accept connections on a port of its own choice."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def hold(self) -> None:
        """From now on, let no answer pass."""
        self._holding.set()

    def hold_answer_to(self, asked: bytes, marker: bytes) -> None:
        """Once these octets were asked for on a connection, hold its answers; `marker` is to be looked for in them."""
        self._asked, self._marker = asked, marker

    async def held(self) -> None:
        """Wait until an answer with the marker is held. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._marker_held.wait()

    def cut(self) -> None:
        """Hang up on both sides, without what was held, and pass everything on from then on."""
        for writer in self._open:
            writer.transport.abort()
        self._holding.clear()
        self._marker_held.clear()
        self._asked = self._marker = b""
        self._held.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._open |= ends
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._ask(reader, far_writer, writer))
                pumps.create_task(self._answer(far_reader, writer))
        except* ConnectionError:
            pass  # one side has gone: so goes the other
        finally:
            for end in ends:
                end.transport.abort()
            self._open -= ends

    async def _ask(
        self, reader: asyncio.StreamReader, far_writer: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(CHUNK):
            if self._asked and self._asked in chunk:
                self._held.add(writer)  # before the request passes, so that its answer can't
            far_writer.write(chunk)
            await far_writer.drain()
        raise ConnectionResetError

    async def _answer(self, far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await far_reader.read(CHUNK):
            if not self._holding.is_set() and writer not in self._held:
                writer.write(chunk)
                await writer.drain()
            elif self._marker and self._marker in chunk:
                self._marker_held.set()
        raise ConnectionResetError
