"""Limits on connections, and slow clients: what is closed, and what is still served."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from postroom.v1alpha1.mailbox_pb2 import ListMailboxesResponse, Mailbox
from postroomd.gateway import GatewayConfig, connection_table, run_gateway
from postroomd.gateway.app import SERVICES
from tests.gateway.client import PREFIX, TOKEN
from tests.gateway.stub_service import StubService
from tests.support.metrics import Scrape, scrape_tests
from tests.support.waiting import wait_until

KEYED = f"Host: a\r\nX-Auth-Token: {TOKEN}\r\n"
LIST = f"GET {PREFIX}/domains HTTP/1.1\r\n{KEYED}\r\n"
HEALTH = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


class Peer:
    """A raw connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, text: str) -> None:
        self.writer.write(text.encode())

    async def response(self) -> tuple[int, bytes]:
        """Read one response."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)).decode().lower()
        length = int(head.partition("content-length: ")[2].split("\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def request(self, text: str) -> int:
        """Send a request, and return the status of its response."""
        self.send(text)
        return (await self.response())[0]

    async def closed(self) -> bytes:
        """Wait until the gateway closes the connection; return what it sent before."""
        try:
            return await asyncio.wait_for(self.reader.read(), 30)
        except ConnectionError:
            return b""


class Running:
    """A gateway, run by run_gateway, with its stub service."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.stub = StubService(SERVICES)
        self.stop = asyncio.Event()
        self.before: Scrape = scrape_tests()
        self._config = config
        self._peers: list[Peer] = []

    async def __aenter__(self) -> "Running":
        await self.stub.start()
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        config = GatewayConfig(grpc_address=self.stub.address, drain_seconds=0.1, **self._config)
        self.task = asyncio.create_task(run_gateway(config, ("127.0.0.1", 0), self.stop, ready.set_result))
        self.port = await ready
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in self._peers:
            peer.writer.close()
        self.stop.set()
        await self.task
        await self.stub.stop()

    async def connect(self, *, limit: int = 65_536) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port, limit=limit))
        self._peers.append(peer)
        return peer

    async def connect_several(self, number: int) -> list[Peer]:
        return [await self.connect() for _ in range(number)]

    def closed(self, reason: str) -> float:
        return scrape_tests().increase(self.before, "postroom_http_connections_closed_total", reason=reason)

    def refused(self) -> float:
        return scrape_tests().increase(self.before, "postroom_http_connections_refused_total")


@pytest.fixture
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with Running(getattr(request, "param", {})) as running:
        yield running


def config(**values: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("running", [values], indirect=True, ids=[""])


# --- Timeouts --------------------------------------------------------------------------------------------------------


@config(header_timeout_seconds=0.2)
async def test_connections_without_complete_headers_are_closed(running: Running) -> None:
    silent, partial, dripping = await running.connect_several(3)
    partial.send("GET /healthz HTTP/1.1\r\nHost: a\r\n")

    async def drip() -> None:
        while not dripping.writer.is_closing():
            dripping.send("X: a\r\n")
            await asyncio.sleep(0.05)

    dripping.send("GET /healthz HTTP/1.1\r\n")
    dripper = asyncio.create_task(drip())
    assert [await peer.closed() for peer in (silent, partial, dripping)] == [b"", b"", b""]
    dripper.cancel()
    assert running.closed("header_timeout") == 3


@config(header_timeout_seconds=2.0)
async def test_the_header_timeout_spares_idle_connections_and_requests(running: Running) -> None:
    release = running.stub.hold("ListDomains")
    idle, busy, late = await running.connect_several(3)
    assert await idle.request(HEALTH) == 200
    busy.send(LIST)
    assert await late.request(HEALTH) == 200
    late.send("GET /heal")  # the next request begins, and does not end
    assert await late.closed() == b""
    assert await idle.request(HEALTH) == 200
    release.set()
    assert (await busy.response())[0] == 200
    assert running.closed("header_timeout") == 1


@config(header_timeout_seconds=2.0)
async def test_pipelined_requests_and_late_bodies_leave_the_connection_idle(running: Running) -> None:
    pipelining, late = await running.connect_several(2)
    pipelining.send(LIST * 3)
    assert [(await pipelining.response())[0] for _ in range(3)] == [200] * 3
    late.send("POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
    assert (await late.response())[0] == 405  # before the body, which is discarded
    late.send("body")
    await asyncio.sleep(2.5)  # longer than the header timeout
    assert [await peer.request(HEALTH) for peer in (pipelining, late)] == [200, 200]
    assert running.closed("header_timeout") == 0


@config(idle_timeout_seconds=0.2)
async def test_idle_connections_are_closed(running: Running) -> None:
    peer = await running.connect()
    assert await peer.request(HEALTH) == 200
    assert await peer.closed() == b""


BODY = f"POST {PREFIX}/aliases HTTP/1.1\r\n{KEYED}Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"


@config(body_timeout_seconds=0.2)
async def test_a_body_that_takes_too_long_is_rejected(running: Running) -> None:
    peer = await running.connect()
    peer.send(BODY + "{")
    status, body = await peer.response()
    assert (status, json.loads(body)["details"][0]["argument_name"]) == (400, "body")
    assert not running.stub.calls


async def test_a_body_below_the_minimum_rate_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroomd.gateway.app.BODY_GRACE_SECONDS", 0.2)
    async with Running({"min_body_rate": 20_000}) as running:
        slow, fast = await running.connect_several(2)
        slow.send(BODY + "{")
        fast.send(BODY + " " * 99_000)  # earns 5 s
        assert (await slow.response())[0] == 400
        fast.send("{}".rjust(1_000))
        assert (await fast.response())[0] == 200


LARGE_PAGE = ListMailboxesResponse(mailboxes=[Mailbox(id="a" * 1_000)] * 12_000)  # 12 MB
GET_PAGE = f"GET {PREFIX}/mailboxes HTTP/1.1\r\n{KEYED}\r\n"


@config(write_timeout_seconds=2.0)
async def test_a_client_that_does_not_read_is_closed(running: Running) -> None:
    running.stub.respond_with("ListMailboxes", LARGE_PAGE)
    unread = await running.connect(limit=1)
    unread.send(GET_PAGE)
    await wait_until(lambda: running.closed("write_timeout") == 1)
    reader = await running.connect()
    reader.send(GET_PAGE)
    status, body = await reader.response()
    assert (status, len(json.loads(body)["mailboxes"])) == (200, 12_000)
    assert running.closed("write_timeout") == 1


async def test_unread_responses_are_bounded_in_memory(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_table, "MAX_OUTPUT_BYTES", 12_000_000)
    running.stub.respond_with("ListMailboxes", LARGE_PAGE)
    for number in range(3):
        unread = await running.connect(limit=1)
        unread.send(GET_PAGE)
        await wait_until(lambda number=number: running.closed("output_limit") >= number)  # type: ignore[misc]
    healthy = await running.connect()
    assert await healthy.request(HEALTH) == 200
    assert running.closed("output_limit") >= 1


def living_responses() -> list[web.Response]:
    return [each for each in gc.get_objects() if isinstance(each, web.Response)]


async def test_idle_connections_keep_no_response_in_memory(running: Running) -> None:
    running.stub.respond_with("ListMailboxes", ListMailboxesResponse(mailboxes=[Mailbox(id="a")]))
    peers = await running.connect_several(5)
    earlier = living_responses()  # of other tests
    assert [await peer.request(GET_PAGE) for peer in peers] == [200] * 5
    responses = [each for each in living_responses() if not any(each is other for other in earlier)]
    assert len(responses) >= 5  # aiohttp keeps them until the next request
    assert not [response for response in responses if response.body]
    assert [await peer.request(GET_PAGE) for peer in peers] == [200] * 5


# --- Numbers ---------------------------------------------------------------------------------------------------------


@config(max_connections=20)
async def test_silent_connections_give_way_to_new_ones_oldest_first(running: Running) -> None:
    silent = await running.connect_several(20)
    served = await running.connect_several(3)
    assert [await peer.request(LIST) for peer in served] == [200] * 3
    assert [await peer.closed() for peer in silent[:3]] == [b""] * 3
    assert [await peer.request(LIST) for peer in silent[3:]] == [200] * 17
    assert (running.closed("evicted"), running.refused()) == (3, 0)


@config(max_connections=3)
async def test_idle_connections_give_way_longest_idle_first(running: Running) -> None:
    first, second, third = await running.connect_several(3)
    assert [await peer.request(HEALTH) for peer in (first, second, third, first)] == [200] * 4
    silent = await running.connect()  # evicts the second, which has been idle the longest
    assert await second.closed() == b""
    newest = await running.connect()  # evicts the silent one before any idle one
    assert await silent.closed() == b""
    assert [await peer.request(HEALTH) for peer in (first, third, newest)] == [200] * 3
    assert running.closed("evicted") == 2


@config(max_connections=2)
async def test_unfinished_bodies_give_way_and_calls_in_progress_do_not(running: Running) -> None:
    release = running.stub.hold("ListDomains")
    busy, slow = await running.connect_several(2)
    busy.send(LIST)
    slow.send(BODY + "{")
    await wait_until(lambda: len(running.stub.calls) == 1)
    await asyncio.sleep(0.05)
    newest = await running.connect()
    assert await newest.request(HEALTH) == 200
    assert await slow.closed() == b""
    release.set()
    assert (await busy.response())[0] == 200
    assert running.closed("evicted") == 1


@config(max_connections=1)
async def test_connections_beyond_the_limit_serve_probes_only(running: Running) -> None:
    release = running.stub.hold("ListDomains")
    busy = await running.connect()
    busy.send(LIST)
    await wait_until(lambda: len(running.stub.calls) == 1)
    for path, status in (("/healthz", 200), ("/readyz", 200), (f"{PREFIX}/domains", 429)):
        peer = await running.connect()
        assert await peer.request(f"GET {path} HTTP/1.1\r\n{KEYED}\r\n") == status
        assert await peer.closed() == b""
    assert len(running.stub.calls) == 1
    release.set()
    assert (await busy.response())[0] == 200
    assert running.refused() == 0


@config(max_connections=1)
async def test_a_connection_beyond_the_reserve_gets_429_and_is_closed(running: Running) -> None:
    release = running.stub.hold("ListDomains")
    readiness = asyncio.Event()

    async def wait(*_: object) -> None:
        await readiness.wait()

    busy = await running.connect()
    busy.send(LIST)
    await wait_until(lambda: len(running.stub.calls) == 1)
    running.stub.before_check = wait
    probes = []
    for number in range(connection_table.RESERVED_CONNECTIONS):
        probes.append(await running.connect())
        probes[-1].send("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
        await wait_until(lambda number=number: running.stub.checks == number + 1)  # type: ignore[misc]
    refused = await running.connect()
    refused.send(LIST)
    head, _, body = (await refused.closed()).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    assert status == "HTTP/1.1 429 Too Many Requests"
    assert {"Retry-After: 1", "Content-Type: application/json", "Connection: close"} <= set(lines)
    assert f"Content-Length: {len(body)}" in lines
    assert json.loads(body)["type"] == "too_many_requests"
    assert (running.refused(), running.closed("evicted")) == (1, 0)
    readiness.set()
    release.set()
    assert [(await peer.response())[0] for peer in (busy, *probes)] == [200] * (len(probes) + 1)


@config(max_connections_per_address=2)
async def test_connections_per_address_are_limited(running: Running) -> None:
    first, second = await running.connect_several(2)
    refused = await running.connect()
    assert (await refused.closed()).startswith(b"HTTP/1.1 429 ")
    assert [await peer.request(HEALTH) for peer in (first, second)] == [200, 200]
    first.writer.close()
    await first.writer.wait_closed()
    assert running.refused() == 1

    async def accepts_another() -> bool:  # once the gateway has noticed that the first one is closed
        return await (await running.connect()).request(HEALTH) == 200

    await wait_until(accepts_another)


@config(max_connections_per_address=1, trusted_proxies=["127.0.0.0/8"])
async def test_trusted_proxies_are_exempt_from_the_limit_per_address(running: Running) -> None:
    peers = await running.connect_several(3)
    assert [await peer.request(HEALTH) for peer in peers] == [200] * 3


# --- Addresses of clients --------------------------------------------------------------------------------------------


SECRET = "of all gateways"


async def test_the_service_is_told_no_address_that_it_would_not_believe(running: Running) -> None:
    peer = await running.connect()
    assert await peer.request(LIST.replace(KEYED, KEYED + "X-Client-Address: 192.0.2.1\r\n")) == 200
    assert "x-client-address" not in running.stub.calls[0].metadata


@config(gateway_secret=SECRET)
async def test_the_service_learns_the_address_of_the_client(running: Running) -> None:
    peer = await running.connect()
    forged = "X-Forwarded-For: 192.0.2.1\r\nX-Client-Address: 192.0.2.1\r\n"
    assert await peer.request(LIST.replace(KEYED, KEYED + forged)) == 200
    assert running.stub.calls[0].metadata["x-client-address"] == "127.0.0.1"


@config(trusted_proxies=["127.0.0.1/32", "10.0.0.0/8"], gateway_secret=SECRET)
async def test_trusted_proxies_supply_the_address_of_the_client(running: Running) -> None:
    peer = await running.connect()
    forwarded = "X-Forwarded-For: 192.0.2.66, 192.0.2.1\r\nX-Forwarded-For: 10.1.2.3\r\n"
    assert await peer.request(LIST.replace(KEYED, KEYED + forwarded)) == 200
    assert await peer.request(LIST) == 200
    addresses = [call.metadata["x-client-address"] for call in running.stub.calls]
    assert addresses == ["192.0.2.1", "127.0.0.1"]
