"""Limits on concurrent requests and connections."""

import asyncio
from typing import Any

import grpc
import pytest
import uvloop
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from postroomd import pacing
from tests.gateway.client import PREFIX, TOKEN, Client, Response, Start
from tests.support.waiting import wait_until


def assert_too_many_requests(response: Response) -> None:
    """Assert a 429 response with Retry-After."""
    assert (response.status, response.json["type"]) == (429, "too_many_requests")
    assert int(response.headers["Retry-After"]) >= 1


async def fill_slots(call: Client, slots: int) -> tuple[asyncio.Event, list[asyncio.Task[Response]]]:
    """Start requests that fill `slots`; return the event that releases them, and their tasks."""
    release = call.stub.hold("ListDomains")
    held = [asyncio.create_task(call("GET", "/domains")) for _ in range(slots)]
    await wait_until(lambda: len(call.stub.calls) == slots)
    return release, held


async def test_the_gateway_is_tested_in_the_event_loop_of_production() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)


async def test_requests_beyond_the_limit_get_429_and_probes_do_not(start: Start) -> None:
    call = await start(max_requests=2)
    release, held = await fill_slots(call, 2)
    refused = await call("GET", "/mailboxes")
    assert_too_many_requests(refused)
    assert refused.headers["X-Request-Id"]
    assert len(call.stub.calls) == 2  # the refused request did not reach the service
    assert (await call("GET", "/healthz")).status == 200
    assert (await call("GET", "/readyz")).status == 200
    release.set()
    assert [response.status for response in await asyncio.gather(*held)] == [200, 200]
    assert (await call("GET", "/mailboxes")).status == 200


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays of rejections so far. That of a request is added when its slot is free again."""
    determined: list[float] = []
    delay = pacing.LateAnswers.delay

    def record(answers: pacing.LateAnswers, **arguments: Any) -> float:
        determined.append(delay(answers, **arguments))
        return determined[-1]

    monkeypatch.setattr(pacing.LateAnswers, "delay", record)
    return determined


async def test_a_rejected_request_holds_no_slot_while_its_answer_is_delayed(start: Start, delays: list[float]) -> None:
    call = await start(max_requests=1, rejection_delay_seconds=600.0)
    call.stub.fail("GetMailbox", grpc.StatusCode.RESOURCE_EXHAUSTED, "rejected")
    rejected = []
    for number in (1, 2):
        rejected.append(asyncio.create_task(call("GET", f"/mailboxes/{number}")))
        await wait_until(lambda: len(delays) == number)  # noqa: B023 - awaited here
    assert (await call("GET", "/domains")).status == 200
    assert not any(each.done() for each in rejected)
    for each in rejected:
        each.cancel()


async def test_requests_with_invalid_keys_beyond_a_rate_are_answered_late(
    start: Start, delays: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "UNAUTHENTICATED_PER_SECOND", 0.001)
    monkeypatch.setattr(pacing, "UNAUTHENTICATED_BURST", 1)
    call = await start(max_requests=1, rejection_delay_seconds=600.0)
    call.stub.fail("GetMailbox", grpc.StatusCode.UNAUTHENTICATED, "no key has this secret")
    assert (await call("GET", "/mailboxes/1")).status == 401
    late = asyncio.create_task(call("GET", "/mailboxes/2"))
    await wait_until(lambda: len(delays) == 2)
    assert (await call("GET", "/domains")).status == 200  # it holds no slot
    assert not late.done()
    late.cancel()


async def test_reads_and_changes_have_separate_limits(start: Start) -> None:
    call = await start(max_requests=1)
    release = call.stub.hold("RestoreMailbox")
    held = asyncio.create_task(call("POST", "/mailboxes/1/restore"))
    await wait_until(lambda: len(call.stub.calls) == 1)
    assert_too_many_requests(await call("POST", "/mailboxes/2/restore"))
    assert (await call("GET", "/mailboxes")).status == 200
    release.set()
    assert (await held).status == 200


async def test_unfinished_bodies_hold_no_slots(start: Start) -> None:
    call = await start(max_requests=1)
    head = f"POST {PREFIX}/aliases HTTP/1.1\r\nHost: a\r\nX-Auth-Token: {TOKEN}\r\nContent-Length: 1000\r\n\r\n1"
    slow = [await asyncio.open_connection("127.0.0.1", call.port) for _ in range(20)]
    for _, writer in slow:
        writer.write(head.encode())
        await writer.drain()
    assert (await call("POST", "/aliases", json={"local_part": "a"})).status == 200
    assert (await call("GET", "/aliases")).status == 200
    assert len(call.stub.calls) == 2
    for _, writer in slow:
        writer.close()


async def test_a_disconnecting_client_releases_its_slot(start: Start) -> None:
    call = await start(max_requests=1)
    _, (held,) = await fill_slots(call, 1)
    held.cancel()
    await call.stub.cancelled.wait()
    assert (await call("GET", "/mailboxes")).status == 200


async def test_refusals_are_logged_as_counts(start: Start, logs: Any) -> None:
    call = await start(max_requests=1)
    release, held = await fill_slots(call, 1)
    for _ in range(20):
        assert_too_many_requests(await call("GET", "/mailboxes"))
    release.set()
    await asyncio.gather(*held)
    lines = [line for line in logs if line["event"] == "requests refused"]
    assert 1 <= len(lines) < 20
    assert 1 <= sum(line["count"] for line in lines) <= 20
    assert not [line for line in logs if line.get("status") == 429]


async def test_too_many_requests_of_the_service_is_passed_on(call: Client) -> None:
    details = [
        ErrorInfo(reason="TOO_MANY_REQUESTS", domain="postroom"),
        RetryInfo(retry_delay=Duration(seconds=7)),
    ]
    call.stub.fail("ListDomains", grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", details)
    response = await call("GET", "/domains")
    assert_too_many_requests(response)
    assert response.headers["Retry-After"] == "7"
