"""Floods over one connection of raw HTTP/2: what the service refuses, and that others' calls succeed."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from itertools import islice
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.attack.attackers import http2
from postroom.v1alpha1 import domain_pb2, mailbox_pb2
from postroomd.rpc.tcp_connections import is_supported
from tests.rpc.client import Tenant
from tests.rpc.service import Service
from tests.support.metrics import scrape_tests
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_STREAMS = 20
MAX_CONNECTIONS = 16
MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE = 3, 6  # RFC 9113, section 6.5.2
TCP_SYN_SENT = 2  # net/tcp_states.h
FLOODING = "127.0.0.2"
"""The address of floods, other than that of the other tests: the guard limits its new connections."""
EVICTED = "postroom_grpc_connections_evicted_total"
REFUSED_STREAM, ENHANCE_YOUR_CALM = 0x7, 0xB  # RFC 9113, section 7


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return {"max_streams": str(MAX_STREAMS), "max_grpc_connections": str(MAX_CONNECTIONS)}


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


class Connection:
    """A connection and the frames that the service sent over it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def frame(self) -> tuple[int, int, bytes]:
        """The next frame: kind, stream and payload. Raises IncompleteReadError once the service has hung up."""
        head = await self._reader.readexactly(9)
        kind, stream = head[3], struct.unpack(">I", head[5:])[0]
        return kind, stream, await self._reader.readexactly(int.from_bytes(head[:3], "big"))

    async def frame_of(self, kind: int) -> tuple[int, bytes]:
        """Stream and payload of the next frame of a kind."""
        while True:
            received, stream, payload = await self.frame()
            if received == kind:
                return stream, payload

    async def discard(self) -> None:
        """Read until the service has hung up."""
        while await self._reader.read(65_536):
            pass

    async def closed(self) -> None:
        """Return once the service has hung up."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self.frame()


def paused_total() -> float:
    return scrape_tests().value("postroom_grpc_connections_paused_total")


def limited_total() -> float:
    return scrape_tests().value("postroom_grpc_networks_limited_total")


@asynccontextmanager
async def connected(service: Service, address: str = "127.0.0.1") -> AsyncIterator[Connection]:
    host, _, port = service.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(address, 0))
    writer.write(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0))
    try:
        async with asyncio.timeout(30):
            yield Connection(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_the_service_announces_its_limits(service: Service) -> None:
    async with connected(service) as connection:
        _, payload = await connection.frame_of(http2.SETTINGS)
        settings = dict(struct.iter_unpack(">HI", payload))
        assert settings[MAX_CONCURRENT_STREAMS] == MAX_STREAMS
        assert settings[MAX_HEADER_LIST_SIZE] <= 16 * 1024


async def test_streams_beyond_the_limit_are_refused(service: Service, tenant: Tenant) -> None:
    async with connected(service) as connection:
        connection.writer.write(b"".join(islice(http2.unfinished_streams(), MAX_STREAMS + 5)))
        for _ in range(5):
            stream, payload = await connection.frame_of(http2.RST_STREAM)
            assert stream > 2 * MAX_STREAMS
            assert struct.unpack(">I", payload)[0] in {REFUSED_STREAM, ENHANCE_YOUR_CALM}
        assert (await tenant.domain()).id


@pytest.mark.parametrize("flood", [http2.pings, http2.settings, http2.continuations])
async def test_a_flood_of_frames_without_calls_is_paused(
    flood: Callable[[], http2.Chunks], service: Service, tenant: Tenant
) -> None:
    async with connected(service, FLOODING) as connection:
        discarding = asyncio.create_task(connection.discard())
        await flood_until_paused(connection, flood())
        assert not discarding.done()
        assert (await tenant.domain()).id
        discarding.cancel()


async def flood_until_paused(connection: Connection, chunks: http2.Chunks) -> None:
    before = paused_total()
    while paused_total() == before:
        connection.writer.writelines(islice(chunks, 50))  # far above the rate, also where this takes 0.1 s
        with suppress(TimeoutError):
            await asyncio.wait_for(connection.writer.drain(), 0.1)


@pytest.mark.skipif(not is_supported(), reason="the guard needs Linux")
async def test_an_address_that_has_flooded_waits_for_new_connections(service: Service, tenant: Tenant) -> None:
    host, _, port = service.address.rpartition(":")
    before = limited_total()
    with ExitStack() as cleanups:

        def connects(address: str) -> bool:
            client = cleanups.enter_context(socket.socket())
            client.bind((address, 0))
            client.setblocking(False)
            client.connect_ex((host, int(port)))
            return bool(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_SYN_SENT)

        async with connected(service, FLOODING) as connection:
            await flood_until_paused(connection, http2.pings())
            await wait_until(lambda: not connects(FLOODING))
            assert connects("127.0.0.1")
            assert limited_total() > before
            assert (await tenant.domain()).id
    async with connected(service, FLOODING) as connection:  # a little later
        await connection.frame_of(http2.SETTINGS)


async def test_calls_at_any_rate_and_of_any_size_are_not_paused(service: Service, tenant: Tenant) -> None:
    before = paused_total()
    domain = await tenant.domain()
    large = mailbox_pb2.BatchCreateMailboxesRequest(domain_id=domain.id)
    large.mailboxes.add(local_part="x" * 60_000)
    baggage = [(f"baggage-{number}", "x" * 3_000) for number in range(2)]
    health: Any = health_pb2_grpc.HealthStub(service.channel())
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    for _ in range(60):
        with pytest.raises(grpc.aio.AioRpcError):
            await tenant.stub.BatchCreateMailboxes(large)
    request = domain_pb2.GetDomainRequest(domain_id=domain.id)
    for _ in range(50):  # 3 MB of metadata
        await asyncio.gather(*(tenant.stub.GetDomain(request, metadata=baggage) for _ in range(10)))
    for _ in range(50):
        await asyncio.gather(*(tenant.stub.GetDomain(request) for _ in range(20)))
    watch.cancel()
    assert paused_total() == before


async def test_calls_with_too_much_metadata_are_rejected(service: Service, tenant: Tenant) -> None:
    async with connected(service) as connection:
        connection.writer.write(b"".join(islice(http2.oversized_metadata(), 6)))
        kind, stream, _ = await connection.frame()
        while stream == 0:
            kind, stream, _ = await connection.frame()
        assert kind in {http2.HEADERS, http2.RST_STREAM}
    assert (await tenant.domain()).id


async def test_connections_beyond_the_limit_are_closed_and_open_ones_go_on(service: Service, tenant: Tenant) -> None:
    assert (await tenant.domain()).id
    before = scrape_tests().value(EVICTED)
    async with AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(connected(service)) for _ in range(MAX_CONNECTIONS)]
        closing = [asyncio.create_task(connection.closed()) for connection in idle]
        await asyncio.wait(closing, return_when=asyncio.FIRST_COMPLETED)
        for task in closing:
            task.cancel()
        assert (await tenant.domain()).id
        await wait_until(lambda: scrape_tests().value(EVICTED) > before)

    async def accepts_another() -> bool:
        try:
            async with connected(service) as connection:
                await connection.frame_of(http2.SETTINGS)
        except (asyncio.IncompleteReadError, OSError):  # the service has not noticed the closed ones yet
            return False
        return True

    await wait_until(accepts_another)
