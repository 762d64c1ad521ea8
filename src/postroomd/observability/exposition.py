"""`GET /metrics` for Prometheus: the metrics of this process, or of several that share a directory.

A minimal HTTP server: neither the service nor the worker contains another one. Scrapes must not delay calls, so that
metrics are formatted one at a time with the event loop in between, collections run one after another with a minimum
interval, and connections are limited in number and in time. Beyond the number, one that waits for its client is closed:
clients that send or read nothing keep no scrape out.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, cast

from postroomd.net import join_address, split_address
from postroomd.observability.logs import get_logger

if TYPE_CHECKING:
    import prometheus_client

MAX_CONNECTIONS = 16
MAX_HEAD_BYTES = 8_192
CONNECTION_TIMEOUT_SECONDS = 10.0  # from the start of a connection until its response is read
MIN_COLLECTION_INTERVAL_SECONDS = 0.05
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client also reads it in lower case
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 # a private directory is created in it

Collect = Callable[[], Iterable["prometheus_client.Metric"]]

log = get_logger(__name__)


@contextmanager
def shared_metrics_directory(*, enabled: bool) -> Iterator[None]:
    """Have the processes started during the block share their metrics through a private directory, removed at its end.

    Unless enabled, each process keeps its own metrics, whatever directory the environment names.
    """
    for variable in (DIRECTORY_VARIABLE, DIRECTORY_VARIABLE.lower()):
        os.environ.pop(variable, None)
    if not enabled:
        yield
        return
    # Prefer memory: a process that writes to a mapped file on a full disk is killed by SIGBUS.
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else None
    os.environ[DIRECTORY_VARIABLE] = tempfile.mkdtemp(prefix="postroom-metrics-", dir=parent)
    try:
        yield
    finally:
        remove_shared_metrics_directory()
        del os.environ[DIRECTORY_VARIABLE]


def remove_shared_metrics_directory() -> None:
    """Remove the shared directory, if any. Processes that still have its files open are not affected."""
    if directory := os.environ.get(DIRECTORY_VARIABLE):
        shutil.rmtree(directory, ignore_errors=True)


def forget_process(pid: int) -> None:
    """Remove the gauges of a process that has exited from the shared directory, if any. Its counters stay."""
    if DIRECTORY_VARIABLE in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def collect_process() -> Iterable["prometheus_client.Metric"]:
    """Return the metrics of this process, including prometheus_client's own `process_*` and `python_gc_*`."""
    import prometheus_client

    return prometheus_client.REGISTRY.collect()


def collect_all_processes() -> Iterable["prometheus_client.Metric"]:
    """Return the aggregated metrics of all processes that share the directory."""
    from prometheus_client.multiprocess import MultiProcessCollector

    return MultiProcessCollector(None).collect()  # type: ignore[no-untyped-call, no-any-return]


@asynccontextmanager
async def metrics_server(address: str, collect: Collect) -> AsyncIterator[str]:
    """Serve metrics during the block; yields the bound HOST:PORT. Raises OSError if the address can't be bound."""
    handler = _ConnectionHandler(collect)
    host, port = split_address(address)
    server = await asyncio.start_server(handler.connected, host, port, limit=MAX_HEAD_BYTES)
    try:
        yield join_address(host, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await handler.close()


class _ConnectionHandler:
    """Handles connections, one request each."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self._connections: set[asyncio.Task[None]] = set()
        self._waiting: dict[asyncio.Task[None], asyncio.StreamWriter] = {}  # for their clients, the longest first
        self._collecting = asyncio.Lock()
        self._next_collection_at = 0.0  # event loop time

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle a new connection.

        If there are MAX_CONNECTIONS already, abort the one that waits for its client the longest; the new one if none
        does.
        """
        if len(self._connections) >= MAX_CONNECTIONS:
            if not self._waiting:
                writer.transport.abort()
                return
            longest, longest_writer = next(iter(self._waiting.items()))
            self._forget(longest)
            longest.cancel()
            longest_writer.transport.abort()  # here as well: the task may not have begun
        connection = asyncio.create_task(self._handle_connection(reader, writer))
        self._connections.add(connection)
        self._waiting[connection] = writer
        connection.add_done_callback(self._forget)

    def _forget(self, connection: asyncio.Task[None]) -> None:
        self._connections.discard(connection)
        self._waiting.pop(connection, None)

    async def close(self) -> None:
        """Abort all open connections."""
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            async with asyncio.timeout(CONNECTION_TIMEOUT_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                self._waiting.pop(connection, None)
                writer.write(await self._respond(head))
                self._waiting[connection] = writer
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client's fault
        finally:
            writer.transport.abort()

    async def _respond(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path != b"/metrics":
            return _response(HTTPStatus.NOT_FOUND, b"Metrics are at /metrics.\n")
        if method not in (b"GET", b"HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"Only GET and HEAD are allowed.\n", "Allow: GET, HEAD")
        try:
            page = await self._format()
        except Exception:
            log.exception("scrape failed")
            return _response(HTTPStatus.INTERNAL_SERVER_ERROR, b"The scrape failed; see the log.\n")
        response = _response(HTTPStatus.OK, page)
        return response if method == b"GET" else response.removesuffix(page)

    async def _format(self) -> bytes:
        from prometheus_client import generate_latest

        loop = asyncio.get_running_loop()
        async with self._collecting:
            await asyncio.sleep(self._next_collection_at - loop.time())
            parts = []
            for metric in self._collect():
                parts.append(generate_latest(_SingleMetricRegistry(metric)))  # which only calls collect()
                await asyncio.sleep(0)
            self._next_collection_at = loop.time() + MIN_COLLECTION_INTERVAL_SECONDS
            return b"".join(parts)


class _SingleMetricRegistry:
    """A registry that contains one metric."""

    def __init__(self, metric: "prometheus_client.Metric") -> None:
        self._metric = metric

    def collect(self) -> Iterable["prometheus_client.Metric"]:
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
