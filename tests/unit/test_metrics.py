"""The table of metrics: documented, counted somewhere, named as Prometheus asks; and the server that exposes them."""

import ast
import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import Metric as Family

import postroomd
from postroomd.observability import exposition, metrics
from postroomd.observability.exposition import DIRECTORY_VARIABLE, MOST_CONNECTIONS, counted_together, serving
from postroomd.observability.metrics import METRICS, Counts, Metric, Times, markdown_table, sampling

SOURCE = Path(postroomd.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
BEGIN, END = "<!-- metrics: python -m postroomd.observability.metrics -->\n", "<!-- end of metrics -->\n"
TENANTS_WORDS = {"organization", "project", "tenant", "id", "email", "address", "name", "path", "url", "access_key"}


def constants() -> dict[str, Metric[Any]]:
    return {name: value for name, value in vars(metrics).items() if isinstance(value, Metric)}


def test_the_documented_table_is_the_one_of_the_code() -> None:
    assert PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip() == markdown_table().strip()


def test_every_metric_is_in_the_table_once_and_counted_somewhere() -> None:
    assert list(constants().values()) == list(METRICS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    used: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        used |= names
    assert constants().keys() <= used


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions_and_labels_tell_nothing_of_a_tenant(metric: Metric[Any]) -> None:
    assert metric.name.endswith("_total") == isinstance(metric, Counts)
    if isinstance(metric, Times):
        assert metric.name.endswith("_seconds")
        assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.name.startswith(("postroom_", "grpc_server_", "http_server_"))
    assert metric.meaning.endswith(".")
    assert metric.unit
    assert set(metric.processes) <= {"serve", "gateway", "worker"}
    for label in metric.labels:
        assert not TENANTS_WORDS & set(label.split("_")), label


def test_the_alerts_of_the_page_name_metrics_that_there_are() -> None:
    text = PAGE.read_text()
    asked = set(re.findall(r"\b(?:postroom|grpc_server|http_server)_[a-z_]+\b", text))
    known = {metric.name for metric in METRICS}
    known |= {
        f"{metric.name}_{part}" for metric in METRICS if isinstance(metric, Times) for part in ("bucket", "count")
    }
    assert asked <= known


async def test_levels_are_looked_at_now_and_then_and_once_more_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SAMPLE_SECONDS", 0.01)
    level = 0

    class Gauge:
        seen: list[float]

        def __init__(self) -> None:
            self.seen = []

        def set(self, value: float) -> None:
            self.seen.append(value)

    gauge = Gauge()
    async with sampling([(gauge, lambda: level)]):  # type: ignore[list-item]
        async with asyncio.timeout(10):
            while len(gauge.seen) < 3:  # noqa: ASYNC110 # another task looks
                await asyncio.sleep(0.005)
        level = 7
    assert gauge.seen[0] == 0
    assert gauge.seen[-1] == 7


# --- The directory ----------------------------------------------------------------------------------------------------


def test_processes_share_a_private_directory_that_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, "/somebody/elses")
    with counted_together(wanted=True):
        directory = Path(os.environ[DIRECTORY_VARIABLE])
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "counter_1.db").touch()
    assert not directory.exists()


def test_a_process_alone_shares_nothing_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, "/somebody/elses")
    with counted_together(wanted=False):
        assert DIRECTORY_VARIABLE not in os.environ


def test_where_memory_can_not_be_had_the_directory_is_made_on_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(exposition, "MEMORY", tmp_path / "none")
    with counted_together(wanted=True):
        assert Path(os.environ[DIRECTORY_VARIABLE]).is_dir()


# --- The server -------------------------------------------------------------------------------------------------------


class Registry:
    """Metrics of a test's own, and how often they were asked for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counter = Counter("made", "Something.", ["kind"], registry=self.registry)
        self.failing = False
        self.collected = 0

    def collect(self) -> Iterable[Family]:
        self.collected += 1
        if self.failing:
            raise RuntimeError
        return self.registry.collect()


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
async def port(registry: Registry) -> AsyncIterator[int]:
    async with serving("127.0.0.1:0", registry.collect) as address:
        yield port_of(address)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """A connection that is given up after the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def ask(port: int, request: bytes) -> tuple[str, list[str], bytes]:
    """Status line, headers and body of the answer to a request."""
    async with connected(port) as (reader, writer), asyncio.timeout(10):
        writer.write(request)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    return status, headers, body


async def length_until_cut_off(reader: asyncio.StreamReader) -> int:
    """How many octets come before the other side ends it."""
    length = 0
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            while received := await reader.read(65_536):
                length += len(received)
    return length


GET = b"GET /metrics?x=y HTTP/1.1\r\nHost: here\r\n\r\n"


async def test_it_answers_what_is_counted(registry: Registry, port: int) -> None:
    registry.counter.labels('a "quoted" kind').inc(2)
    status, headers, body = await ask(port, GET)
    assert status == "HTTP/1.1 200 OK"
    assert f"Content-Length: {len(body)}" in headers
    assert rb'made_total{kind="a \"quoted\" kind"} 2.0' in body.splitlines()
    status, head, nothing = await ask(port, GET.replace(b"GET", b"HEAD"))
    assert (status, head, nothing) == ("HTTP/1.1 200 OK", headers, b"")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1", "404 Not Found"),
        (b"GET /metrics/ HTTP/1.1", "404 Not Found"),
        (b"POST /metrics HTTP/1.1", "405 Method Not Allowed"),
        (b"\xff\x00", "404 Not Found"),
    ],
)
async def test_it_answers_nothing_else(registry: Registry, port: int, request_line: bytes, status: str) -> None:
    assert (await ask(port, request_line + b"\r\n\r\n"))[0] == f"HTTP/1.1 {status}"
    assert registry.collected == 0


async def test_a_fault_of_the_metrics_is_500_and_the_next_scrape_is_served(registry: Registry, port: int) -> None:
    registry.failing = True
    assert (await ask(port, GET))[0] == "HTTP/1.1 500 Internal Server Error"
    registry.failing = False
    assert (await ask(port, GET))[0] == "HTTP/1.1 200 OK"


async def test_a_head_without_end_is_cut_off(registry: Registry, port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100_000)
        assert await length_until_cut_off(reader) == 0
    assert registry.collected == 0


async def test_who_says_nothing_keeps_nobody_waiting_and_is_cut_off(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "EXCHANGE_SECONDS", 1.0)
    async with AsyncExitStack() as stack:
        port = port_of(await stack.enter_async_context(serving("127.0.0.1:0", registry.collect)))
        silent = [await stack.enter_async_context(connected(port)) for _ in range(MOST_CONNECTIONS - 1)]
        assert (await ask(port, GET))[0] == "HTTP/1.1 200 OK"
        assert [await length_until_cut_off(reader) for reader, _ in silent] == [0] * len(silent)


async def test_one_connection_too_many_is_cut_off(port: int) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            await stack.enter_async_context(connected(port))
        reader, _ = await stack.enter_async_context(connected(port))
        assert await length_until_cut_off(reader) == 0


def exchanges() -> int:
    """How many connections are being served in this event loop."""
    return sum("_exchange" in str(task.get_coro()) for task in asyncio.all_tasks())


async def test_who_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "EXCHANGE_SECONDS", 1.0)
    length = 20_000_000  # more than the buffers of both ends take
    family = Family("long", "x" * length, "counter")
    async with serving("127.0.0.1:0", lambda: [family]) as address, connected(port_of(address)) as (reader, writer):
        writer.write(GET)
        async with asyncio.timeout(10):
            for expected in (1, 0):
                while exchanges() != expected:  # noqa: ASYNC110 # the server tells nobody
                    await asyncio.sleep(0.01)
        assert await length_until_cut_off(reader) < length


async def test_it_ends_although_somebody_is_connected(registry: Registry) -> None:
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(5), serving("127.0.0.1:0", registry.collect) as address:
            reader, _ = await stack.enter_async_context(connected(port_of(address)))
            await ask(port_of(address), GET)
        assert await length_until_cut_off(reader) == 0
