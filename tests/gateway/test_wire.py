"""Raw bytes that no HTTP library would send."""

import asyncio
from typing import Any

import pytest

from tests.gateway.client import PREFIX, Client, Response, Start


async def raw(call: Client, request: bytes) -> Response:
    """Send bytes and read one response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", call.port)
    try:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        return Response(int(head[0].split()[1]), headers, await reader.readexactly(int(headers["Content-Length"])))
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
async def test_invalid_http_gets_a_json_error(
    call: Client, request_bytes: bytes, logs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    response = await raw(call, request_bytes)
    assert (response.status, response.json["type"], response.json["details"]) == (400, "invalid_arguments", [])
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-Id"]
    assert [line["status"] for line in logs] == [400]
    assert "secret" not in response.raw.decode() + repr(logs) + caplog.text


CHUNKED = KEYED + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("chunks_sent", [b"zz\r\n{}\r\n", b"2\r\n{}\r\nzz\r\n"])
async def test_malformed_chunks_are_rejected(call: Client, chunks_sent: bytes) -> None:
    response = await raw(call, b"POST " + PREFIX.encode() + b"/aliases HTTP/1.1\r\n" + CHUNKED + chunks_sent)
    assert (response.status, response.json["type"]) == (400, "invalid_arguments")


async def test_a_body_that_arrives_too_late_is_rejected(start: Start) -> None:
    call = await start(body_timeout_seconds=0.1)
    response = await raw(call, b"POST " + PREFIX.encode() + b"/aliases HTTP/1.1\r\n" + CHUNKED + b"2\r\n{}\r\n")
    assert response.violations == {"body": "format"}


@pytest.mark.parametrize("length", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
async def test_a_request_without_token_is_denied_before_its_body(call: Client, length: bytes) -> None:
    head = b"POST " + PREFIX.encode() + b"/aliases HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    response = await raw(call, head + length + b"\r\n\r\n1")
    assert (response.status, response.json["type"]) == (401, "denied_authentication")


@pytest.mark.parametrize("method", [b"GET", b"DELETE"])
@pytest.mark.parametrize("length", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
async def test_a_body_that_the_route_ignores_is_not_waited_for(call: Client, method: bytes, length: bytes) -> None:
    head = method + b" " + PREFIX.encode() + b"/aliases/an-id HTTP/1.1\r\n" + KEYED
    assert (await raw(call, head + length + b"\r\n\r\n1")).status == 200


@pytest.mark.parametrize("target", [b"*", b"http://localhost/nowhere", b"/nowhere#fragment"])
async def test_unusual_request_targets_are_not_found(call: Client, target: bytes) -> None:
    response = await raw(call, b"OPTIONS " + target + b" HTTP/1.1\r\n" + HOST + b"X-Request-Id: the-id\r\n\r\n")
    assert (response.status, response.json["type"]) == (404, "not_found")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-Id"] == "the-id"


async def test_invalid_bytes_in_headers_and_queries_are_client_errors(call: Client) -> None:
    path = b"GET " + PREFIX.encode() + b"/domains"
    response = await raw(call, path + b" HTTP/1.1\r\n" + HOST + b"X-Auth-Token: \xff\xfe\r\n\r\n")
    assert (response.status, response.json["type"]) == (401, "denied_authentication")
    response = await raw(call, path + b" HTTP/1.1\r\n" + KEYED + b"X-Request-Id: \xff\r\n\r\n")
    assert response.status == 200
    response = await raw(call, path + b"?search=\xff HTTP/1.1\r\n" + KEYED + b"\r\n")
    assert response.status == 400
    assert response.json["type"] == "invalid_arguments"


async def test_expect_100_continue_is_answered_before_the_body(call: Client) -> None:
    head = b"POST " + PREFIX.encode() + b"/aliases HTTP/1.1\r\n" + KEYED + b"Content-Type: application/json\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", call.port)
    writer.write(head + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
    response = await raw(call, head + b"Content-Length: 4000000\r\nExpect: 100-continue\r\n\r\n")
    assert (response.status, response.json["type"]) == (413, "payload_too_large")
    response = await raw(call, head + b"Content-Length: 2\r\nExpect: the-unexpected\r\n\r\n{}")
    assert response.status == 200
