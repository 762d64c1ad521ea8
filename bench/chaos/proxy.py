"""A TCP proxy on loopback that loses responses: it forwards requests, holds back the responses, and disconnects."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK = 65_536
TIMEOUT_SECONDS = 30.0


class Proxy:
    """Forwards connections to `upstream`, HOST:PORT."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._holding_all = asyncio.Event()
        self._request_pattern = b""
        self._response_pattern = b""
        self._response_held = asyncio.Event()
        self._held_clients: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self.address = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Proxy"]:
        """Accept connections on a free port during the block."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self.disconnect()

    def hold_responses(self) -> None:
        """Forward no more responses."""
        self._holding_all.set()

    def hold_response_to(self, request_pattern: bytes, response_pattern: bytes) -> None:
        """Forward no more responses on a connection once a request on it contains a pattern.

        `wait_until_held` then waits for a response that contains the other pattern.
        """
        self._request_pattern, self._response_pattern = request_pattern, response_pattern

    async def wait_until_held(self) -> None:
        """Wait until a response with the pattern is held. Raises TimeoutError."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self._response_held.wait()

    def disconnect(self) -> None:
        """Close all connections on both sides, drop held responses, and forward everything from now on."""
        for writer in self._open:
            writer.transport.abort()
        self._holding_all.clear()
        self._response_held.clear()
        self._request_pattern = self._response_pattern = b""
        self._held_clients.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, upstream_writer}
        self._open |= ends
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._forward_requests(reader, upstream_writer, writer))
                tasks.create_task(self._forward_responses(upstream_reader, writer))
        except* ConnectionError:
            pass  # one side has disconnected, so the other side is disconnected too
        finally:
            for end in ends:
                end.transport.abort()
            self._open -= ends

    async def _forward_requests(
        self, reader: asyncio.StreamReader, upstream_writer: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(CHUNK):
            if self._request_pattern and self._request_pattern in chunk:
                self._held_clients.add(client)  # before the request is forwarded, so that its response is held
            upstream_writer.write(chunk)
            await upstream_writer.drain()
        raise ConnectionResetError

    async def _forward_responses(self, upstream_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while chunk := await upstream_reader.read(CHUNK):
            if not self._holding_all.is_set() and client not in self._held_clients:
                client.write(chunk)
                await client.drain()
            elif self._response_pattern and self._response_pattern in chunk:
                self._response_held.set()
        raise ConnectionResetError
