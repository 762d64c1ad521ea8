"""Request and connection metrics: one observation per request, by method, route template and status."""

import asyncio
from typing import Any

import grpc
import pytest

from postroomd.gateway import GatewayConfig, run_gateway
from postroomd.observability import metrics
from tests.gateway.client import PREFIX, Client, Start
from tests.gateway.stub_service import StubService
from tests.gateway.test_overload import fill_slots
from tests.support.metrics import Scrape, scrape_tests
from tests.support.waiting import wait_until

COUNT = "http_server_request_duration_seconds_count"
DOMAINS = f"{PREFIX}/domains"


def measured(before: Scrape) -> dict[tuple[str, str, str], float]:
    """Return the number of requests since `before` by method, route and status."""
    labels = ("http_request_method", "http_route", "http_response_status_code")
    earlier, now = before.nonzero(COUNT, *labels), scrape_tests().nonzero(COUNT, *labels)
    return {of: value - earlier.get(of, 0) for of, value in now.items() if value != earlier.get(of)}  # type: ignore[misc]


async def test_requests_are_measured_by_route_template(call: Client) -> None:
    before = scrape_tests()
    call.stub.fail("DeleteDomain", grpc.StatusCode.NOT_FOUND, "no")
    for number in range(3):
        assert (await call("GET", f"/domains/{number}")).status == 200
    assert (await call("DELETE", "/domains/1")).status == 404
    assert (await call("POST", "/domains", json={"nam": 1})).status == 400
    assert (await call("HEAD", "/healthz")).status == 200
    assert measured(before) == {
        ("GET", f"{DOMAINS}/{{domain_id}}", "200"): 3,
        ("DELETE", f"{DOMAINS}/{{domain_id}}", "404"): 1,
        ("POST", DOMAINS, "400"): 1,
        ("HEAD", "/healthz", "200"): 1,
    }


async def test_routes_are_exposed_before_their_first_request(call: Client) -> None:
    samples = scrape_tests().samples[COUNT]
    labels = {
        "http_request_method": "GET",
        "http_route": f"{DOMAINS}/{{domain_id}}",
        "http_response_status_code": "200",
    }
    assert frozenset(labels.items()) in samples


async def test_client_input_never_becomes_a_label(call: Client) -> None:
    before = scrape_tests()
    for number in range(20):
        assert (await call("GET", f"/invented-{number}")).status == 404
        assert (await call(("PROPFIND", "MKCOL")[number % 2], "/domains")).status == 405  # not methods of RFC 9110
    assert (await call("BREW", "/domains")).status == 400  # not parsed as HTTP
    assert measured(before) == {
        ("GET", "unmatched", "404"): 20,
        ("_OTHER", DOMAINS, "405"): 20,
        ("_OTHER", "unmatched", "400"): 1,
    }
    assert not {word for word in ("invented", "PROPFIND", "MKCOL", "BREW") if word in scrape_tests().text}


async def test_a_request_that_is_not_http_is_counted(call: Client) -> None:
    before = scrape_tests()
    reader, writer = await asyncio.open_connection("127.0.0.1", call.port)
    writer.write(b"GET /s\x00cret HTTP/9\r\nbad\r\n\r\n")
    assert b" 400 " in await reader.readline()
    await reader.read()
    writer.close()
    assert measured(before) == {("_OTHER", "unmatched", "400"): 1}


async def test_refused_requests_have_their_own_counter(start: Start) -> None:
    call, before = await start(max_requests=1), scrape_tests()
    release, held = await fill_slots(call, 1)
    for _ in range(3):
        assert (await call("GET", "/mailboxes")).status == 429
    release.set()
    await asyncio.gather(*held)
    assert scrape_tests().increase(before, "postroom_http_requests_refused_total") == 3
    assert measured(before) == {("GET", f"{PREFIX}/mailboxes", "429"): 3, ("GET", DOMAINS, "200"): 1}


async def test_a_disconnecting_client_is_measured_once(call: Client) -> None:
    before = scrape_tests()
    _, (held,) = await fill_slots(call, 1)
    held.cancel()
    await wait_until(lambda: bool(measured(before)))
    assert measured(before) == {("GET", DOMAINS, "499"): 1}


async def test_open_and_refused_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SAMPLE_SECONDS", 0.02)
    stub, before = StubService(()), scrape_tests()
    await stub.start()
    config = GatewayConfig(grpc_address=stub.address, max_connections_per_address=2)
    stop = asyncio.Event()
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    running: asyncio.Task[Any] = asyncio.create_task(run_gateway(config, ("127.0.0.1", 0), stop, ready.set_result))
    port = await ready
    try:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await wait_until(lambda: scrape_tests().value("postroom_http_connections") == 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert b" 429 " in await reader.readline()
        for _, each in [*held, (reader, writer)]:
            each.close()
        await wait_until(lambda: scrape_tests().value("postroom_http_connections") == 0)
    finally:
        stop.set()
        await running
        await stub.stop()
    assert scrape_tests().increase(before, "postroom_http_connections_refused_total") == 1
    assert scrape_tests().increase(before, "postroom_http_requests_refused_total") == 0
