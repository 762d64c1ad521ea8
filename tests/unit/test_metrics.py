"""The metric definitions: documented, used, named by Prometheus conventions; and the server that exposes them."""

import ast
import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client.core import Metric as MetricFamily

import postroomd
from postroomd.observability import exposition, metrics
from postroomd.observability.exposition import (
    DIRECTORY_VARIABLE,
    MAX_CONNECTIONS,
    metrics_server,
    shared_metrics_directory,
)
from postroomd.observability.metric_types import Counter, Histogram, Metric
from postroomd.observability.metrics import METRICS, markdown_table, sampling

SOURCE = Path(postroomd.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
BEGIN, END = "<!-- metrics: python -m postroomd.observability.metrics -->\n", "<!-- end of metrics -->\n"
TENANT_WORDS = {"organization", "project", "tenant", "id", "email", "address", "name", "path", "url", "access_key"}


def constants() -> dict[str, Metric[Any]]:
    return {name: value for name, value in vars(metrics).items() if isinstance(value, Metric)}


def test_documented_table_matches_the_definitions() -> None:
    assert PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip() == markdown_table().strip()


def test_every_metric_is_listed_once_and_used() -> None:
    assert sorted(metric.name for metric in constants().values()) == sorted(metric.name for metric in METRICS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    used = {"BUILD_INFO"}  # set where it is defined
    for path in set(SOURCE.rglob("*.py")) - {Path(metrics.__file__)}:
        tree = ast.parse(path.read_text())
        used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert constants().keys() <= used


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_conventions_and_labels_hold_no_tenant_data(metric: Metric[Any]) -> None:
    assert metric.name.endswith("_total") == isinstance(metric, Counter)
    if isinstance(metric, Histogram):
        assert metric.name.endswith("_seconds")
        assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.name.startswith(("postroom_", "grpc_server_", "http_server_"))
    assert metric.help.endswith(".")
    assert metric.unit
    assert set(metric.processes) <= {"serve", "gateway", "worker"}
    for label in metric.label_values:
        assert not TENANT_WORDS & set(label.split("_")), label


def test_the_documentation_names_only_metrics_that_exist() -> None:
    text = PAGE.read_text()
    named = set(re.findall(r"\b(?:postroom|grpc_server|http_server)_[a-z_]+\b", text))
    known = {metric.name for metric in METRICS}
    known |= {
        f"{metric.name}_{part}" for metric in METRICS if isinstance(metric, Histogram) for part in ("bucket", "count")
    }
    assert named <= known


async def test_gauges_are_sampled_periodically_and_once_more_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SAMPLE_SECONDS", 0.01)
    current = 0

    class RecordingGauge:
        def __init__(self) -> None:
            self.values: list[float] = []

        def set(self, value: float) -> None:
            self.values.append(value)

    gauge = RecordingGauge()
    async with sampling([(gauge, lambda: current)]):
        async with asyncio.timeout(10):
            while len(gauge.values) < 3:  # noqa: ASYNC110 # set by another task
                await asyncio.sleep(0.005)
        current = 7
    assert gauge.values[0] == 0
    assert gauge.values[-1] == 7


# --- The shared directory ---------------------------------------------------------------------------------------------


def test_the_shared_directory_is_private_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, "/of/another")
    with shared_metrics_directory(enabled=True):
        directory = Path(os.environ[DIRECTORY_VARIABLE])
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "counter_1.db").touch()
    assert not directory.exists()


def test_a_single_process_ignores_the_directory_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, "/of/another")
    with shared_metrics_directory(enabled=False):
        assert DIRECTORY_VARIABLE not in os.environ


def test_without_shared_memory_the_directory_is_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(exposition, "SHARED_MEMORY", tmp_path / "none")
    with shared_metrics_directory(enabled=True):
        assert Path(os.environ[DIRECTORY_VARIABLE]).is_dir()


# --- The server -------------------------------------------------------------------------------------------------------


class Registry:
    """Metrics of one test, and how often they were collected."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.counter = prometheus_client.Counter("created", "Example.", ["kind"], registry=self.registry)
        self.failing = False
        self.collected = 0

    def collect(self) -> Iterable[MetricFamily]:
        self.collected += 1
        if self.failing:
            raise RuntimeError
        return self.registry.collect()


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
async def port(registry: Registry) -> AsyncIterator[int]:
    async with metrics_server("127.0.0.1:0", registry.collect) as address:
        yield port_of(address)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """Open a connection, aborted after the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def send(port: int, request: bytes) -> tuple[str, list[str], bytes]:
    """Send a request; returns status line, headers and body of the response."""
    async with connected(port) as (reader, writer), asyncio.timeout(10):
        writer.write(request)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    return status, headers, body


async def bytes_until_closed(reader: asyncio.StreamReader) -> int:
    """Return the number of bytes received until the server closes the connection."""
    length = 0
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            while received := await reader.read(65_536):
                length += len(received)
    return length


GET = b"GET /metrics?x=y HTTP/1.1\r\nHost: here\r\n\r\n"


async def test_a_scrape_returns_the_metrics(registry: Registry, port: int) -> None:
    registry.counter.labels('a "quoted" kind').inc(2)
    status, headers, body = await send(port, GET)
    assert status == "HTTP/1.1 200 OK"
    assert f"Content-Length: {len(body)}" in headers
    assert rb'created_total{kind="a \"quoted\" kind"} 2.0' in body.splitlines()
    status, head, body = await send(port, GET.replace(b"GET", b"HEAD"))
    assert (status, head, body) == ("HTTP/1.1 200 OK", headers, b"")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1", "404 Not Found"),
        (b"GET /metrics/ HTTP/1.1", "404 Not Found"),
        (b"POST /metrics HTTP/1.1", "405 Method Not Allowed"),
        (b"\xff\x00", "404 Not Found"),
    ],
)
async def test_other_requests_are_rejected(registry: Registry, port: int, request_line: bytes, status: str) -> None:
    assert (await send(port, request_line + b"\r\n\r\n"))[0] == f"HTTP/1.1 {status}"
    assert registry.collected == 0


async def test_a_failed_collection_is_500_and_the_next_scrape_succeeds(registry: Registry, port: int) -> None:
    registry.failing = True
    assert (await send(port, GET))[0] == "HTTP/1.1 500 Internal Server Error"
    registry.failing = False
    assert (await send(port, GET))[0] == "HTTP/1.1 200 OK"


async def test_an_endless_request_head_is_aborted(registry: Registry, port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100_000)
        assert await bytes_until_closed(reader) == 0
    assert registry.collected == 0


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nX: "])
async def test_unfinished_requests_delay_no_scrape_and_the_longest_waiting_are_aborted(port: int, sent: bytes) -> None:
    async with AsyncExitStack() as stack:
        unfinished = [await stack.enter_async_context(connected(port)) for _ in range(3 * MAX_CONNECTIONS)]
        for _, writer in unfinished:
            writer.write(sent)
        assert (await send(port, GET))[0] == "HTTP/1.1 200 OK"
        for reader, _ in unfinished[: 2 * MAX_CONNECTIONS + 1]:
            assert await bytes_until_closed(reader) == 0
        assert not any(reader.at_eof() for reader, _ in unfinished[2 * MAX_CONNECTIONS + 1 :])
        assert open_connections() == MAX_CONNECTIONS - 1


async def test_unfinished_requests_time_out(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "CONNECTION_TIMEOUT_SECONDS", 0.5)
    async with AsyncExitStack() as stack:
        port = port_of(await stack.enter_async_context(metrics_server("127.0.0.1:0", registry.collect)))
        silent = [await stack.enter_async_context(connected(port)) for _ in range(3)]
        assert [await bytes_until_closed(reader) for reader, _ in silent] == [0] * len(silent)


async def test_connections_beyond_the_maximum_are_aborted_while_all_wait_for_the_server(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "MIN_COLLECTION_INTERVAL_SECONDS", 3_600.0)
    async with AsyncExitStack() as stack:
        port = port_of(await stack.enter_async_context(metrics_server("127.0.0.1:0", registry.collect)))
        assert (await send(port, GET))[0] == "HTTP/1.1 200 OK"
        scrapes = [await stack.enter_async_context(connected(port)) for _ in range(MAX_CONNECTIONS)]
        for _, writer in scrapes:
            writer.write(GET)
        await asyncio.sleep(0.1)  # the server, in this event loop, reads them all
        reader, _ = await stack.enter_async_context(connected(port))
        assert await bytes_until_closed(reader) == 0
        assert open_connections() == MAX_CONNECTIONS


def open_connections() -> int:
    """Return the number of connections handled in this event loop."""
    return sum("_handle_connection" in str(task.get_coro()) for task in asyncio.all_tasks())


async def test_a_client_that_does_not_read_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "CONNECTION_TIMEOUT_SECONDS", 1.0)
    length = 20_000_000  # more than fits into the buffers of both ends
    family = MetricFamily("long", "x" * length, "counter")
    async with (
        metrics_server("127.0.0.1:0", lambda: [family]) as address,
        connected(port_of(address)) as (reader, writer),
    ):
        writer.write(GET)
        async with asyncio.timeout(10):
            for expected in (1, 0):
                while open_connections() != expected:  # noqa: ASYNC110 # the server signals nothing
                    await asyncio.sleep(0.01)
        assert await bytes_until_closed(reader) < length


async def test_the_server_stops_although_a_client_is_connected(registry: Registry) -> None:
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(5), metrics_server("127.0.0.1:0", registry.collect) as address:
            reader, _ = await stack.enter_async_context(connected(port_of(address)))
            await send(port_of(address), GET)
        assert await bytes_until_closed(reader) == 0
