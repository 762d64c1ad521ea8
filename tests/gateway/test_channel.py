"""The gateway's connections to the service: as many as its calls need, few calls on one, many on the least loaded."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from postroomd.gateway.channel import CLIENT_ADDRESS, GATEWAY_SECRET, PREFERRED_CALLS, open_channel
from tests.support.waiting import wait_until

METHOD = "/test.Service/Call"
MAX_STREAMS = 2


class BlockingService(grpc.GenericRpcHandler):
    """A service whose calls wait to be released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.peers: Counter[str] = Counter()
        self.metadata: list[dict[str, Any]] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        async def call(request: bytes, context: Any) -> bytes:
            self.peers[context.peer()] += 1
            self.metadata.append(dict(context.invocation_metadata()))
            if request != b"at once":
                await self.released.wait()
            return request

        return grpc.unary_unary_rpc_method_handler(call)


@asynccontextmanager
async def running(service: BlockingService, max_streams: int = MAX_STREAMS) -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", max_streams), ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.mark.parametrize("max_calls", [1, 6, 7])
async def test_as_many_calls_as_allowed_are_in_progress_at_once(max_calls: int) -> None:
    service = BlockingService()
    async with running(service) as address, open_channel(address, max_calls=max_calls, max_streams=2) as channel:
        call = channel.unary_unary(METHOD)
        calls = [call(b"", timeout=30) for _ in range(max_calls)]
        await wait_until(lambda: service.peers.total() == max_calls)
        assert max(service.peers.values()) <= MAX_STREAMS
        assert await call(b"at once", timeout=30) == b"at once"  # a health check has room
        service.released.set()
        await asyncio.gather(*calls)
        await wait_until(lambda: not any(connection.calls for connection in channel.connections))


async def test_few_calls_share_a_connection() -> None:
    service = BlockingService()
    async with running(service, max_streams=100) as address, open_channel(address) as channel:
        call = channel.unary_unary(METHOD)
        calls = [call(b"", timeout=30) for _ in range(2 * PREFERRED_CALLS)]
        await wait_until(lambda: service.peers.total() == 2 * PREFERRED_CALLS)
        assert sorted(service.peers.values()) == [PREFERRED_CALLS, PREFERRED_CALLS]
        assert len(channel.connections) > len(service.peers)
        service.released.set()
        await asyncio.gather(*calls)


async def test_slow_calls_do_not_meet_on_one_connection() -> None:
    service = BlockingService()
    async with running(service) as address, open_channel(address, max_calls=4, max_streams=2) as channel:
        call = channel.unary_unary(METHOD)
        slow = []
        for _ in range(4):
            slow.append(call(b"", timeout=30))
            for _ in range(len(channel.connections) - 1):  # by turns, the slow calls would share a connection
                assert await call(b"at once", timeout=30) == b"at once"
        service.released.set()
        await asyncio.gather(*slow)


@pytest.mark.parametrize("secret", [None, "of all gateways alone"])
async def test_calls_carry_the_address_of_their_client_with_the_secret_of_the_gateways(secret: str | None) -> None:
    service = BlockingService()
    async with running(service) as address, open_channel(address, gateway_secret=secret) as channel:
        metadata = grpc.aio.Metadata(*channel.client_metadata("192.0.2.1"))
        await channel.unary_unary(METHOD)(b"at once", timeout=30, metadata=metadata)
    assert service.metadata[0].get(GATEWAY_SECRET) == secret
    assert service.metadata[0].get(CLIENT_ADDRESS) == ("192.0.2.1" if secret else None)
