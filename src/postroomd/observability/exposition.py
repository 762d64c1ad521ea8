"""`GET /metrics`: what Prometheus scrapes, of this process or of several.

A server of its own, of a few lines: neither the service nor the worker has another HTTP server in it. A scrape must not
be felt by anyone else. Metrics are written out one at a time, and others have the event loop between them; however
often it is asked for, one page is made at a time, and then none for a while. Who asks slowly, reads slowly or comes as
one too many is cut off.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from postroomd.net import join_address, split_address
from postroomd.observability.logs import get_logger

if TYPE_CHECKING:
    from prometheus_client import Metric

MOST_CONNECTIONS = 16
MOST_HEAD_BYTES = 8_192
EXCHANGE_SECONDS = 10.0  # for a request to arrive, and its answer to be read
REST_SECONDS = 0.05  # between two pages
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # the library heeds it in lower case too
MEMORY = Path("/dev/shm")  # noqa: S108 # a private directory is made in it

Collect = Callable[[], Iterable["Metric"]]

log = get_logger(__name__)


@contextmanager
def counted_together(*, wanted: bool) -> Iterator[None]:
    """Have the processes that are made during the block count into a private directory, which is gone after it.

    Else each counts for itself, whatever directory the environment names.
    """
    for variable in (DIRECTORY_VARIABLE, DIRECTORY_VARIABLE.lower()):
        os.environ.pop(variable, None)
    if not wanted:
        yield
        return
    # In memory where the system lets us: a file that is mapped and finds its disk full ends the process.
    parent = MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else None
    os.environ[DIRECTORY_VARIABLE] = tempfile.mkdtemp(prefix="postroom-metrics-", dir=parent)
    try:
        yield
    finally:
        stop_counting_together()
        del os.environ[DIRECTORY_VARIABLE]


def stop_counting_together() -> None:
    """Remove the directory, where there is one. Whoever counts into it may go on, and nobody will see."""
    if directory := os.environ.get(DIRECTORY_VARIABLE):
        shutil.rmtree(directory, ignore_errors=True)


def collect_alone() -> Iterable["Metric"]:
    """The metrics of this process, the library's own of process and collector among them."""
    from prometheus_client import REGISTRY

    return REGISTRY.collect()


def collect_together() -> Iterable["Metric"]:
    """The metrics of all processes that count into the directory."""
    from prometheus_client.multiprocess import MultiProcessCollector

    return MultiProcessCollector(None).collect()  # type: ignore[no-untyped-call, no-any-return]


@asynccontextmanager
async def serving(address: str, collect: Collect) -> AsyncIterator[str]:
    """Serve metrics during the block, which is given the HOST:PORT. Raises OSError where it can't be bound."""
    exposition = _Exposition(collect)
    host, port = split_address(address)
    server = await asyncio.start_server(exposition.connected, host, port, limit=MOST_HEAD_BYTES)
    try:
        yield join_address(host, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await exposition.close()


class _Exposition:
    """Answers connections, one request each."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self._exchanges: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._rested_at = 0.0  # by the loop's time

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection in, where there is room for it."""
        if len(self._exchanges) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        exchange = asyncio.create_task(self._exchange(reader, writer))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)

    async def close(self) -> None:
        """Cut off whoever is still connected."""
        for exchange in self._exchanges:
            exchange.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(EXCHANGE_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head))
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # its own affair
        finally:
            writer.transport.abort()

    async def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path != b"/metrics":
            return _response(HTTPStatus.NOT_FOUND, b"The metrics are at /metrics.\n")
        if method not in (b"GET", b"HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"GET is served here.\n", "Allow: GET, HEAD")
        try:
            page = await self._page()
        except Exception:
            log.exception("scrape failed")
            return _response(HTTPStatus.INTERNAL_SERVER_ERROR, b"The log says why.\n")
        answer = _response(HTTPStatus.OK, page)
        return answer if method == b"GET" else answer.removesuffix(page)

    async def _page(self) -> bytes:
        from prometheus_client import generate_latest

        loop = asyncio.get_running_loop()
        async with self._turn:
            await asyncio.sleep(self._rested_at - loop.time())
            parts = []
            for metric in self._collect():
                parts.append(generate_latest(_Family(metric)))  # all that it asks for is collect()
                await asyncio.sleep(0)
            self._rested_at = loop.time() + REST_SECONDS
            return b"".join(parts)


class _Family:
    """A registry with one metric."""

    def __init__(self, metric: "Metric") -> None:
        self._metric = metric

    def collect(self) -> Iterable["Metric"]:
        return [self._metric]


def _response(status: HTTPStatus, body: bytes, *headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
