"""What the guard does with real TCP connections, at times of the test's own: budgets, pauses, and making room."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from postroomd.rpc import connection_guard
from postroomd.rpc.client_address import endpoint_of
from postroomd.rpc.connection_calls import CALL_BYTES, CALL_IN_PROGRESS_BYTES, Calls, ConnectionCalls
from postroomd.rpc.connection_guard import (
    BURST_BYTES,
    LONG_CALL_SECONDS,
    MAX_PAUSE_SECONDS,
    MAX_SUSPECT_CONNECTIONS_DEBT,
    SUSPECT_BURST_BYTES,
    SUSPECT_CONNECTIONS_BURST,
    SUSPECT_CONNECTIONS_PER_SECOND,
    SUSPECT_SECONDS,
    UNEXPLAINED_BYTES_PER_SECOND,
    VERIFIED_BURST_BYTES,
    ConnectionGuard,
)
from postroomd.rpc.tcp_connections import AcceptedConnections, is_supported
from tests.support.metrics import scrape_tests
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(not is_supported(), reason="the guard needs Linux"),
]

CHECK_SECONDS = 0.2


class Context:
    """A call, as far as its connection is concerned."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer


class Client:
    """A client's connection, and what the server has read from it."""

    def __init__(self, calls: Calls, writer: asyncio.StreamWriter) -> None:
        host, port = writer.get_extra_info("sockname")[:2]
        self.peer = f"ipv4:{host}:{port}"
        self._calls = calls
        self.writer = writer
        self.reader: asyncio.StreamReader

    @property
    def calls(self) -> ConnectionCalls:
        return self._calls.of(self.peer)

    @property
    def is_closed(self) -> bool:
        return self.reader.at_eof()


@dataclass
class Port:
    """A listening port whose connections are guarded. Its checks are `CHECK_SECONDS` apart."""

    guard: ConnectionGuard
    calls: Calls
    number: int
    cleanups: AsyncExitStack
    received: dict[str, int]
    now: float = 1_000.0

    async def connect(self, address: str = "127.0.0.1") -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number, local_addr=(address, 0))
        self.cleanups.push_async_callback(_abort, writer)
        client = Client(self.calls, writer)
        client.reader = reader
        await wait_until(lambda: client.peer in self.received)
        return client

    async def send(self, client: Client, size: int) -> None:
        """Send bytes, and return once the server has read them."""
        expected = self.received[client.peer] + size
        client.writer.write(bytes(size))
        await wait_until(lambda: self.received[client.peer] == expected)

    async def check(self, seconds: float = CHECK_SECONDS) -> None:
        self.now += seconds
        await self.guard.check(self.now)

    async def exceed(self, client: Client, burst: int = BURST_BYTES) -> None:
        """Empty the client's bucket."""
        await self.send(client, burst + UNEXPLAINED_BYTES_PER_SECOND)
        await self.check()

    async def pause(self, client: Client) -> None:
        """Empty the client's bucket twice."""
        with paused(1):
            await self.exceed(client)
            await self.exceed(client)


async def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


def paused_total() -> float:
    return scrape_tests().value("postroom_grpc_connections_paused_total")


def evicted_total() -> float:
    return scrape_tests().value("postroom_grpc_connections_evicted_total")


def limited_total() -> float:
    return scrape_tests().value("postroom_grpc_networks_limited_total")


@contextmanager
def paused(times: int) -> Iterator[None]:
    """The block pauses connections so many times."""
    before = paused_total()
    yield
    assert paused_total() - before == times


@asynccontextmanager
async def guarded(max_connections: int = 1_000) -> AsyncIterator[Port]:
    received: dict[str, int] = {}

    readers: list[Any] = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = writer.get_extra_info("peername")[:2]
        peer = f"ipv4:{host}:{port}"
        readers.append(asyncio.current_task())
        received[peer] = 0
        with suppress(ConnectionError):
            while data := await reader.read(1_000_000):
                received[peer] += len(data)
        await _abort(writer)

    async with AsyncExitStack() as cleanups:
        server = await asyncio.start_server(read, "127.0.0.1", 0)
        cleanups.callback(server.close)
        number = server.sockets[0].getsockname()[1]
        calls = Calls()
        yield Port(ConnectionGuard(calls, {number: max_connections}), calls, number, cleanups, received)
    await asyncio.gather(*readers)


async def test_what_calls_explain_costs_nothing() -> None:
    async with guarded() as port:
        client = await port.connect()
        with paused(0):
            for _ in range(4):
                await port.send(client, BURST_BYTES)
                client.calls.started += BURST_BYTES // CALL_BYTES
                await port.check()


async def test_a_connection_is_measured_before_it_is_paused() -> None:
    async with guarded() as port:
        client = await port.connect()
        with paused(0):
            await port.exceed(client)
            client.calls.started += 1
            await port.check()
            assert client.calls.is_measured
            assert port.calls.is_measuring
            # From now on, metadata and small messages count as well.
            for _ in range(8):
                await port.send(client, BURST_BYTES // 2)
                port.calls.received(Context(client.peer), [("baggage", "x" * (BURST_BYTES // 2))], b"")
                await port.check()


async def test_a_paused_connection_receives_nothing_until_the_bucket_is_full_and_loses_nothing() -> None:
    async with guarded() as port:
        client = await port.connect()
        await port.pause(client)
        before = port.received[client.peer]
        for _ in range(10):
            client.writer.write(bytes(1_000))
            await port.check()
        assert port.received[client.peer] == before
        assert not client.is_closed
        await port.check(MAX_PAUSE_SECONDS)
        await wait_until(lambda: port.received[client.peer] == before + 10_000)


async def test_a_paused_connection_can_still_be_answered_and_closed() -> None:
    async with guarded() as port:
        client = await port.connect()
        await port.pause(client)
        client.writer.close()  # without data: FIN passes
        with paused(0):
            await wait_until(lambda: not port.guard.connections or port.check(0))


async def test_calls_in_progress_may_be_receiving_their_messages() -> None:
    async with guarded() as port:
        client = await port.connect()
        call = asyncio.create_task(asyncio.sleep(0))
        client.calls.in_progress.add(call)
        with paused(0):
            for _ in range(2):
                await port.send(client, BURST_BYTES + CALL_IN_PROGRESS_BYTES)
                await port.check()
                assert not client.calls.is_measured
                client.calls.large_bytes += BURST_BYTES + CALL_IN_PROGRESS_BYTES
        await call


async def test_a_connection_with_a_valid_key_has_a_larger_burst() -> None:
    async with guarded() as port:
        client = await port.connect()
        await port.exceed(client)
        client.calls.started += 1
        await port.check()
        port.calls.verified(Context(client.peer))
        with paused(0):
            await port.send(client, VERIFIED_BURST_BYTES - BURST_BYTES)
            await port.check()
        with paused(1):
            await port.exceed(client)


async def test_other_connections_of_a_paused_ones_address_go_on_with_a_smaller_burst() -> None:
    async with guarded() as port:
        flooding, neighbour, stranger = [await port.connect() for _ in range(2)] + [await port.connect("127.0.0.2")]
        await port.pause(flooding)
        with paused(0):
            for client in (neighbour, stranger):
                client.calls.started += 1
                await port.exceed(client, SUSPECT_BURST_BYTES)
            assert not stranger.calls.is_measured
        neighbour.calls.started += 1
        stranger.calls.started += 1
        await port.check()
        assert neighbour.calls.is_measured
        assert not stranger.calls.is_measured
        with paused(1):  # without a call, at once
            await port.exceed(await port.connect(), SUSPECT_BURST_BYTES)


@pytest.mark.parametrize("is_verified", [False, True])
async def test_an_address_whose_connections_are_closed_before_they_are_paused_is_suspect(is_verified: bool) -> None:
    async with guarded() as port:
        client = await port.connect()
        client.calls.started += 1
        await port.exceed(client)
        assert client.calls.is_measured
        if is_verified:
            port.calls.verified(Context(client.peer))
        client.writer.close()
        await wait_until(lambda: not port.guard.connections or port.check(0))
        with paused(0 if is_verified else 1):
            await port.exceed(await port.connect(), SUSPECT_BURST_BYTES)


async def use_up_connections(port: Port, address: str = "127.0.0.1", excess: int = 0) -> None:
    """Make an address suspect, and empty the bucket of its new connections."""
    await port.pause(await port.connect(address))
    before = limited_total()
    for _ in range(int(SUSPECT_CONNECTIONS_BURST) + excess):
        await port.connect(address)
    await port.check(0)
    assert limited_total() == before + 1


def connecting(port: Port, address: str = "127.0.0.1") -> asyncio.Task[Client]:
    """Begin to connect. The client tries again a second later."""
    return asyncio.create_task(port.connect(address))


async def test_an_address_of_a_paused_connection_waits_once_it_has_opened_too_many() -> None:
    async with guarded() as port:
        await use_up_connections(port)
        waiting = connecting(port)
        await port.connect("127.0.0.2")  # another address does not wait
        await port.check(0)
        assert not waiting.done()
        assert port.guard.connections == 1 + SUSPECT_CONNECTIONS_BURST + 1
        await port.check(1 / SUSPECT_CONNECTIONS_PER_SECOND)
        await waiting
        # That took the token.
        await port.check(0)
        waiting = connecting(port)
        await port.connect("127.0.0.2")
        assert not waiting.done()
        await port.check(SUSPECT_SECONDS)
        await waiting
        before = limited_total()
        for _ in range(2 * int(SUSPECT_CONNECTIONS_BURST)):
            await port.connect()
        await port.check(0)
        assert limited_total() == before


async def test_connections_that_were_opened_between_two_checks_count_later_up_to_a_maximum() -> None:
    async with guarded() as port:
        excess = int(MAX_SUSPECT_CONNECTIONS_DEBT) + 20
        await use_up_connections(port, excess=excess)
        before = limited_total()
        await port.check(0.9 * MAX_SUSPECT_CONNECTIONS_DEBT / SUSPECT_CONNECTIONS_PER_SECOND)
        waiting = connecting(port)
        await port.connect("127.0.0.2")
        assert not waiting.done()
        await port.check((0.1 * MAX_SUSPECT_CONNECTIONS_DEBT + 1) / SUSPECT_CONNECTIONS_PER_SECOND)
        await waiting
        assert limited_total() == before


async def test_an_address_without_paused_connections_opens_any_number() -> None:
    async with guarded() as port:
        before = limited_total()
        for _ in range(3):
            for _ in range(100):
                await port.connect()
            await port.check(0)
        assert port.guard.connections == 300
        assert limited_total() == before


@pytest.mark.parametrize("failing", [False, True])
async def test_no_address_waits_for_a_guard_that_has_stopped_or_fails(
    failing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with guarded() as port:
        port.now = monotonic()  # that of `run`
        await use_up_connections(port)
        waiting = connecting(port)
        await port.connect("127.0.0.2")
        assert not waiting.done()
        if failing:
            monkeypatch.setattr(AcceptedConnections, "scan", lambda _: list(Path(os.devnull).iterdir()))
        running = asyncio.create_task(port.guard.run())
        await asyncio.sleep(0)
        if not failing:
            running.cancel()
        await waiting
        running.cancel()


async def test_the_heaviest_address_loses_its_longest_idle_connections_and_none_with_calls() -> None:
    async with guarded(max_connections=20) as port:
        calling = await port.connect()
        calling.calls.in_progress.add(asyncio.current_task())  # type: ignore[arg-type]
        idle = [await port.connect() for _ in range(12)]
        others = [await port.connect("127.0.0.2") for _ in range(5)]
        await port.check()
        recent = idle.pop(0)
        recent.calls.started += 1
        before = evicted_total()
        await port.check()
        assert evicted_total() == before  # 18 connections, two are reserved
        others.append(await port.connect("127.0.0.2"))
        others.append(await port.connect("127.0.0.2"))
        await port.check()
        assert evicted_total() == before + 2
        await wait_until(lambda: sum(client.is_closed for client in idle) == 2)
        assert not any(client.is_closed for client in (calling, recent, *others))


async def test_an_address_with_many_connections_loses_those_with_endless_calls() -> None:
    async with guarded(max_connections=20) as port:
        clients = [await port.connect() for _ in range(20)]
        for client in clients:
            client.calls.in_progress.add(asyncio.current_task())  # type: ignore[arg-type]
        before = evicted_total()
        await port.check()
        assert evicted_total() == before
        await port.check(2 * LONG_CALL_SECONDS)
        assert evicted_total() == before + 2


async def test_the_calls_of_closed_connections_are_forgotten() -> None:
    async with guarded() as port:
        client = await port.connect()
        endpoint = endpoint_of(client.peer)
        assert endpoint
        client.calls.started += 1
        await port.check()
        assert port.calls.at(endpoint) is client.calls
        client.writer.close()
        await wait_until(lambda: not port.guard.connections or port.check())
        await port.check()
        assert port.calls.at(endpoint) is None


async def test_only_accepted_connections_of_the_port_are_found() -> None:
    async with guarded() as port, guarded() as other:
        client = await port.connect()
        await other.connect()
        found = AcceptedConnections([port.number]).scan()
        assert [connection.endpoint for connection, _ in found] == [endpoint_of(client.peer)]


async def test_a_failed_check_forgets_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    async with guarded() as port:
        client = await port.connect()
        await port.pause(client)
        before = port.received[client.peer]
        client.writer.write(bytes(1_000))
        with monkeypatch.context() as failing:
            failing.setattr(AcceptedConnections, "scan", lambda _: list(Path(os.devnull).iterdir()))
            with pytest.raises(NotADirectoryError):
                await port.check()
        await port.check(MAX_PAUSE_SECONDS)
        await wait_until(lambda: port.received[client.peer] == before + 1_000)


async def test_the_guard_goes_on_after_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_guard, "FAILURE_SECONDS", 0.0)
    async with guarded() as port:
        await port.connect()
        with monkeypatch.context() as failing:
            failing.setattr(AcceptedConnections, "scan", lambda _: list(Path(os.devnull).iterdir()))
            with pytest.raises(NotADirectoryError):
                await port.check()
            running = asyncio.create_task(port.guard.run())
            await asyncio.sleep(0.01)
            assert not running.done()
        await wait_until(lambda: port.guard.connections == 1)
        running.cancel()
