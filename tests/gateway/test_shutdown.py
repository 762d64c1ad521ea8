"""The service comes and goes, clients hang up, and the gateway itself stops."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped, unused-ignore]

from postroomd.gateway import GatewayConfig, run_gateway
from postroomd.gateway.app import SERVICES
from tests.gateway.conftest import PREFIX, Client, Start
from tests.gateway.stub_service import StubService

DOMAINS = f"{PREFIX}/domains"


async def until(condition: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Poll; fail when the time is up."""
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.02)


# --- The service -----------------------------------------------------------------------------------------------------


async def test_a_lost_connection_is_back_within_three_seconds_of_the_service_s_return(call: Client) -> None:
    assert (await call("GET", "/domains")).status == 200
    await call.stub.stop()
    for _ in range(5):
        answer = await call("GET", "/domains")
        assert (answer.status, answer.json["type"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await call("GET", "/readyz")).status == 503
        assert (await call("GET", "/healthz")).json == {"status": "ok"}
        await asyncio.sleep(0.2)  # long enough for the wait between two attempts to grow
    await call.stub.start()

    async def back() -> bool:
        return (await call("GET", "/domains")).status == 200

    await until(back, 3.0)
    assert (await call("GET", "/readyz")).status == 200


async def test_a_service_that_was_never_there_fails_calls_at_once_and_is_found_when_it_comes(call: Client) -> None:
    await call.stub.stop()  # before the first call, which is the one to connect
    assert (await call("GET", "/domains")).status == 503
    await call.stub.start()

    async def there() -> bool:
        return (await call("GET", "/domains")).status == 200

    await until(there, 3.0)


async def test_a_service_that_does_not_answer_costs_the_call_timeout_alone(start: Start) -> None:
    call = await start(call_timeout_seconds=0.1)
    call.stub.hold("ListDomains")
    answer = await call("GET", "/domains")
    assert (answer.status, answer.json["type"]) == (504, "deadline_exceeded")


async def test_ready_says_why_not(call: Client) -> None:
    assert (await call("GET", "/readyz")).json == {"status": "serving"}
    call.stub.health = health_pb2.HealthCheckResponse.NOT_SERVING
    answer = await call("GET", "/readyz")
    assert answer.status == 503
    assert answer.json == {"status": "not_serving", "reason": "the service answers NOT_SERVING"}
    await call.stub.stop()
    answer = await call("GET", "/readyz")
    assert answer.status == 503
    assert answer.json == {"status": "not_serving", "reason": "the service can't be asked: UNAVAILABLE"}


# --- Clients ---------------------------------------------------------------------------------------------------------


async def test_a_client_that_hangs_up_cancels_its_call(
    call: Client, logs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    call.stub.hold("ListDomains")
    request = asyncio.create_task(call("GET", "/domains"))

    async def arrived() -> bool:
        return bool(call.stub.calls)

    await until(arrived, 5.0)
    request.cancel()
    await asyncio.wait_for(call.stub.cancelled.wait(), 5.0)

    async def logged() -> bool:
        return [line["status"] for line in logs] == [499]

    await until(logged, 5.0)
    assert "Traceback" not in caplog.text
    assert (await call("GET", "/aliases")).status == 200


async def test_a_client_that_hangs_up_in_its_body_leaves_no_trace_but_a_line(
    call: Client, logs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", call.port)
    writer.write(f"POST {PREFIX}/aliases HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{{".encode())
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()

    async def logged() -> bool:
        return [line["status"] for line in logs] == [499]

    await until(logged, 5.0)
    assert "Traceback" not in caplog.text


# --- The gateway -----------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Running:
    """A gateway started as the command line starts it."""

    def __init__(self, stub: StubService, session: aiohttp.ClientSession, drain_seconds: float) -> None:
        self.stub = stub
        self.session = session
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.port = port
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        config = GatewayConfig(grpc_address=stub.address, drain_seconds=drain_seconds)
        self.task = asyncio.create_task(run_gateway(config, ("127.0.0.1", port), self.stop, self.ready.set))

    async def get(self) -> tuple[int, str | None]:
        async with self.session.get(self.url + DOMAINS) as response:
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
            await asyncio.wait_for(running.ready.wait(), 5.0)
            return running

        yield runner
        for running in started:
            running.stop.set()
            await running.task
    await stub.stop()


async def test_a_drain_finishes_what_is_under_way_and_accepts_nothing_more(run: Run) -> None:
    running = await run(10.0)
    assert (await running.get()) == (200, None)
    release = running.stub.hold("ListDomains")
    held = asyncio.create_task(running.get())

    async def arrived() -> bool:
        return len(running.stub.calls) == 2

    await until(arrived, 5.0)
    running.stop.set()

    async def refused() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        except ConnectionError:
            return True
        writer.close()
        return False

    await until(refused, 5.0)
    assert not running.task.done()
    release.set()
    assert (await held) == (200, "close")
    await asyncio.wait_for(running.task, 5.0)


async def test_a_body_that_is_still_arriving_is_under_way_too(run: Run) -> None:
    running = await run(10.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    head = f"POST {PREFIX}/aliases HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Auth-Token: a\r\n"
    writer.write(f"{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    running.stop.set()
    await asyncio.sleep(0.05)
    writer.write(b"{}")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await asyncio.wait_for(running.task, 5.0)
    writer.close()
    await writer.wait_closed()


async def test_a_drain_ends_when_its_time_is_up(run: Run) -> None:
    running = await run(0.1)
    running.stub.hold("ListDomains")
    held = asyncio.create_task(running.get())

    async def arrived() -> bool:
        return bool(running.stub.calls)

    await until(arrived, 5.0)
    running.stop.set()
    await asyncio.wait_for(running.task, 5.0)
    with pytest.raises(aiohttp.ClientError):
        await held
    await asyncio.wait_for(running.stub.cancelled.wait(), 5.0)


async def test_an_idle_connection_does_not_delay_the_stop(run: Run) -> None:
    running = await run(10.0)
    await running.get()  # leaves its connection open
    running.stop.set()
    await asyncio.wait_for(running.task, 3.0)


async def test_a_taken_address_is_an_error_and_not_shared(run: Run) -> None:
    running = await run(1.0)
    config = GatewayConfig(grpc_address=running.stub.address)
    with pytest.raises(OSError, match="address already in use"):
        await run_gateway(config, ("127.0.0.1", running.port), asyncio.Event())


@pytest.mark.parametrize("bad", [{"max_body_bytes": 0}, {"call_timeout_seconds": 0.0}, {"body_timeout_seconds": -1.0}])
def test_a_limit_that_is_none_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        GatewayConfig(grpc_address="127.0.0.1:1", **bad)
