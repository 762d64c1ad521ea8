"""Loss of the service, disconnecting clients, and shutdown of the gateway."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped, unused-ignore]

from postroomd.gateway import GatewayConfig, run_gateway
from postroomd.gateway.app import SERVICES
from tests.gateway.client import PREFIX, Client, Start
from tests.gateway.stub_service import StubService
from tests.support.waiting import wait_until

DOMAINS = f"{PREFIX}/domains"
SECONDS = 30.0
"""Long enough for a busy machine."""
LONG_DRAIN_SECONDS = 300.0
"""What takes at most SECONDS has not waited for its end."""


# --- The service -----------------------------------------------------------------------------------------------------


async def test_the_channel_reconnects_once_the_service_has_returned(call: Client) -> None:
    assert (await call("GET", "/domains")).status == 200
    await call.stub.stop()
    for _ in range(3):
        response = await call("GET", "/domains")
        assert (response.status, response.json["type"]) == (503, "unavailable")
        assert int(response.headers["Retry-After"]) >= 1
        assert (await call("GET", "/readyz")).status == 503
        assert (await call("GET", "/healthz")).json == {"status": "ok"}
        await asyncio.sleep(0.2)  # long enough for the reconnect backoff to grow
    await call.stub.start()

    async def back() -> bool:
        return (await call("GET", "/domains")).status == 200

    await wait_until(back)
    assert (await call("GET", "/readyz")).status == 200


async def test_the_readiness_of_several_gateways_agrees_once_the_service_has_returned(start: Start) -> None:
    first = await start()
    second = await start(stub=first.stub)
    assert [(await each("GET", "/readyz")).status for each in (first, second)] == [200, 200]
    await first.stub.stop()
    for _ in range(5):
        assert (await first("GET", "/domains")).status == 503  # this gateway's backoff grows, the other's does not
        await asyncio.sleep(0.3)
    await first.stub.start()
    assert [(await each("GET", "/readyz")).status for each in (second, first, second, first)] == [200] * 4


async def test_an_absent_service_fails_calls_at_once_and_is_found_later(call: Client) -> None:
    await call.stub.stop()  # before the first call, which opens the connection
    assert (await call("GET", "/domains")).status == 503
    await call.stub.start()

    async def there() -> bool:
        return (await call("GET", "/domains")).status == 200

    await wait_until(there)


async def test_an_unresponsive_service_ends_in_the_call_timeout(start: Start) -> None:
    call = await start(call_timeout_seconds=0.1)
    call.stub.hold("ListDomains")
    response = await call("GET", "/domains")
    assert (response.status, response.json["type"]) == (504, "deadline_exceeded")


async def test_readiness_gives_the_reason(call: Client) -> None:
    assert (await call("GET", "/readyz")).json == {"status": "serving"}
    call.stub.health = health_pb2.HealthCheckResponse.NOT_SERVING
    response = await call("GET", "/readyz")
    assert response.status == 503
    assert response.json == {"status": "not_serving", "reason": "the service reports NOT_SERVING"}
    call.stub.health_metadata = (("x-not-serving-reason", "the role is missing"),)
    reason = (await call("GET", "/readyz")).json["reason"]
    assert reason == "the service reports NOT_SERVING: the role is missing"
    await call.stub.stop()
    response = await call("GET", "/readyz")
    assert response.status == 503
    assert response.json == {"status": "not_serving", "reason": "the health check of the service failed: UNAVAILABLE"}


# --- Clients ---------------------------------------------------------------------------------------------------------


async def test_a_disconnecting_client_cancels_its_call(
    call: Client, logs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    call.stub.hold("ListDomains")
    request = asyncio.create_task(call("GET", "/domains"))

    await wait_until(lambda: bool(call.stub.calls))
    request.cancel()
    await asyncio.wait_for(call.stub.cancelled.wait(), SECONDS)
    await wait_until(lambda: [line["status"] for line in logs] == [499])
    assert "Traceback" not in caplog.text
    assert (await call("GET", "/aliases")).status == 200


async def test_a_client_that_disconnects_within_its_body_is_logged_once(
    call: Client, logs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", call.port)
    head = f"POST {PREFIX}/aliases HTTP/1.1\r\nHost: a\r\nX-Auth-Token: a\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 10\r\nExpect: 100-continue\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"  # it reads the body now
    writer.write(b"{")
    writer.close()
    await writer.wait_closed()
    await wait_until(lambda: [line["status"] for line in logs] == [499])
    assert "Traceback" not in caplog.text


# --- The gateway -----------------------------------------------------------------------------------------------------


class Running:
    """A gateway run by run_gateway, as in production."""

    def __init__(self, stub: StubService, session: aiohttp.ClientSession, drain_seconds: float) -> None:
        self.stub = stub
        self.session = session
        self.stop = asyncio.Event()
        self.ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        config = GatewayConfig(grpc_address=stub.address, drain_seconds=drain_seconds)
        self.task = asyncio.create_task(run_gateway(config, ("127.0.0.1", 0), self.stop, self.ready.set_result))

    @property
    def port(self) -> int:
        return self.ready.result()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def get(self) -> tuple[int, str | None]:
        async with self.session.get(self.url + DOMAINS, headers={"X-Auth-Token": "a"}) as response:
            await response.read()
            return response.status, response.headers.get("Connection")


Run = Callable[[float], Awaitable[Running]]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    stub = StubService(SERVICES)
    await stub.start()
    started: list[Running] = []
    async with aiohttp.ClientSession() as session:

        async def runner(drain_seconds: float) -> Running:
            running = Running(stub, session, drain_seconds)
            started.append(running)
            await asyncio.wait_for(running.ready, SECONDS)
            return running

        yield runner
        for running in started:
            running.stop.set()
            await running.task
    await stub.stop()


async def test_a_drain_completes_requests_and_accepts_no_connections(run: Run) -> None:
    running = await run(LONG_DRAIN_SECONDS)
    assert (await running.get()) == (200, None)
    release = running.stub.hold("ListDomains")
    held = asyncio.create_task(running.get())
    await wait_until(lambda: len(running.stub.calls) == 2)
    running.stop.set()

    async def refused() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        except ConnectionError:
            return True
        writer.close()
        return False

    await wait_until(refused, SECONDS)
    assert not running.task.done()
    release.set()
    assert (await held) == (200, "close")
    await asyncio.wait_for(running.task, SECONDS)


async def test_a_drain_waits_for_bodies_in_transit(run: Run) -> None:
    running = await run(LONG_DRAIN_SECONDS)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    head = f"POST {PREFIX}/aliases HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Auth-Token: a\r\n"
    writer.write(f"{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    running.stop.set()
    await asyncio.sleep(0.05)
    writer.write(b"{}")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await asyncio.wait_for(running.task, SECONDS)
    writer.close()
    await writer.wait_closed()


async def test_a_drain_ends_after_its_timeout(run: Run) -> None:
    running = await run(0.1)
    running.stub.hold("ListDomains")
    held = asyncio.create_task(running.get())
    await wait_until(lambda: bool(running.stub.calls))
    running.stop.set()
    await asyncio.wait_for(running.task, SECONDS)
    with pytest.raises(aiohttp.ClientError):
        await held
    await asyncio.wait_for(running.stub.cancelled.wait(), SECONDS)


async def test_an_idle_connection_does_not_delay_the_shutdown(run: Run) -> None:
    running = await run(LONG_DRAIN_SECONDS)
    await running.get()  # leaves its connection open
    running.stop.set()
    await asyncio.wait_for(running.task, SECONDS)


async def test_an_address_in_use_is_an_error(run: Run) -> None:
    running = await run(1.0)
    config = GatewayConfig(grpc_address=running.stub.address)
    with pytest.raises(OSError, match="address already in use"):
        await run_gateway(config, ("127.0.0.1", running.port), asyncio.Event())


@pytest.mark.parametrize("bad", [{"max_body_bytes": 0}, {"call_timeout_seconds": 0.0}, {"body_timeout_seconds": -1.0}])
def test_a_limit_of_zero_or_less_is_rejected(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        GatewayConfig(grpc_address="127.0.0.1:1", **bad)
