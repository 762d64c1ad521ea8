"""Bytes on the wire that no HTTP library would send."""

import asyncio
from typing import Any

import pytest

from tests.gateway.conftest import PREFIX, Answer, Client, Start


async def raw(call: Client, request: bytes) -> Answer:
    """Send bytes, and read one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", call.port)
    try:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        return Answer(int(head[0].split()[1]), headers, await reader.readexactly(int(headers["Content-Length"])))
    finally:
        writer.close()
        await writer.wait_closed()


HOST = b"Host: localhost\r\n"
KEYED = HOST + b"X-Auth-Token: a-key\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
        b"GET /domains HTTP/1.1\r\n" + HOST + b"X-Auth-Token secret-in-a-bad-line\r\n\r\n",
        b"GET /domains HTTP/1.1\r\n" + HOST + b"X-Long: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST /aliases HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /aliases HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n{}",
        b"POST /aliases HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    ],
    ids=range(11),
)
async def test_what_is_not_http_is_refused_in_json(
    call: Client, request_bytes: bytes, logs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await raw(call, request_bytes)
    assert (answer.status, answer.json["type"], answer.json["details"]) == (400, "invalid_arguments", [])
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-Id"]
    assert [line["status"] for line in logs] == [400]
    assert "secret" not in answer.raw.decode() + repr(logs) + caplog.text


CHUNKED = KEYED + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("chunks_sent", [b"zz\r\n{}\r\n", b"2\r\n{}\r\nzz\r\n"])
async def test_broken_chunks_are_refused(call: Client, chunks_sent: bytes) -> None:
    answer = await raw(call, b"POST " + PREFIX.encode() + b"/aliases HTTP/1.1\r\n" + CHUNKED + chunks_sent)
    assert (answer.status, answer.json["type"]) == (400, "invalid_arguments")


async def test_a_body_that_does_not_arrive_in_time_is_refused(start: Start) -> None:
    call = await start(body_timeout_seconds=0.1)
    answer = await raw(call, b"POST " + PREFIX.encode() + b"/aliases HTTP/1.1\r\n" + CHUNKED + b"2\r\n{}\r\n")
    assert answer.violations == {"body": "format"}


@pytest.mark.parametrize("target", [b"*", b"http://localhost/nowhere", b"/nowhere#fragment"])
async def test_odd_targets_are_not_found(call: Client, target: bytes) -> None:
    answer = await raw(call, b"OPTIONS " + target + b" HTTP/1.1\r\n" + HOST + b"X-Request-Id: the-id\r\n\r\n")
    assert (answer.status, answer.json["type"]) == (404, "not_found")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-Id"] == "the-id"


async def test_odd_bytes_in_headers_and_queries_are_no_internal_error(call: Client) -> None:
    path = b"GET " + PREFIX.encode() + b"/domains"
    answer = await raw(call, path + b" HTTP/1.1\r\n" + HOST + b"X-Auth-Token: \xff\xfe\r\n\r\n")
    assert (answer.status, answer.json["type"]) == (401, "denied_authentication")
    answer = await raw(call, path + b" HTTP/1.1\r\n" + KEYED + b"X-Request-Id: \xff\r\n\r\n")
    assert answer.status == 200
    answer = await raw(call, path + b"?search=\xff HTTP/1.1\r\n" + KEYED + b"\r\n")
    assert answer.status == 400
    assert answer.json["type"] == "invalid_arguments"


async def test_a_client_that_asks_first_is_told_to_go_on_or_not_to(call: Client) -> None:
    head = b"POST " + PREFIX.encode() + b"/aliases HTTP/1.1\r\n" + KEYED + b"Content-Type: application/json\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", call.port)
    writer.write(head + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
    answer = await raw(call, head + b"Content-Length: 4000000\r\nExpect: 100-continue\r\n\r\n")
    assert (answer.status, answer.json["type"]) == (413, "payload_too_large")
    answer = await raw(call, head + b"Content-Length: 2\r\nExpect: a miracle\r\n\r\n{}")
    assert answer.status == 200
