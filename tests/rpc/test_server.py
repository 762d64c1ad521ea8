"""What anyone can send to the gRPC port, and that the service goes on."""

import asyncio
import struct
from collections.abc import Mapping
from io import StringIO
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2

from bench.attack.attackers import http2
from postroomd.rpc.health import Health
from postroomd.rpc.server import Server
from postroomd.runtime.grpc_servers import until_stopped
from tests.fuzz.exchange import Http2Stream, exchange_http2
from tests.fuzz.grpc_cases import preface
from tests.rpc.client import Tenant
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
GET_MAILBOX = "/postroom.v1alpha1.MailboxService/GetMailbox"


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return {"admin_address": "127.0.0.1:0"}


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


async def send(address: str, path: str | bytes, body: bytes, *headers: tuple[str | bytes, str | bytes]) -> Http2Stream:
    """Send one call, and return what comes back."""
    block = http2.header_block(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *headers,
        ]
    )
    frames = http2.frame(http2.HEADERS, http2.END_HEADERS, 1, block)
    frames += http2.frame(http2.DATA, http2.END_STREAM, 1, body)
    host, _, port = address.rpartition(":")
    answers = await exchange_http2(host, int(port), preface() + frames, [1])
    return answers.streams[1]


def message(raw: bytes) -> bytes:
    return struct.pack(">BI", 0, len(raw)) + raw


@pytest.mark.parametrize("path", [b"/\xff", b"/postroom.v1alpha1.MailboxService/\x8b", b"/grpc.health.v1.Health/\xc3"])
async def test_the_name_of_a_method_need_not_be_utf_8(
    service: Service, tenant: Tenant, path: bytes, logs: StringIO
) -> None:
    for address in (service.address, service.admin_address or ""):
        assert (await send(address, path, message(b""))).headers["grpc-status"] == "12"  # UNIMPLEMENTED
        assert (await send(address, CHECK, message(b""))).headers["grpc-status"] == "0"
    assert (await tenant.domain()).id
    assert "Traceback" not in logs.getvalue()


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0\0\0", message(b"ab")[:-1]], ids=["none", "flag", "length", "part"])
@pytest.mark.parametrize("path", [GET_MAILBOX, CHECK, WATCH])
async def test_a_call_that_ends_without_a_message_is_answered(
    service: Service, tenant: Tenant, path: str, body: bytes
) -> None:
    answered = await send(service.address, path, body, *tenant.metadata)
    assert answered.headers["grpc-status"] == "3"  # INVALID_ARGUMENT


async def test_without_a_key_such_a_call_is_unauthenticated(service: Service) -> None:
    assert (await send(service.address, GET_MAILBOX, b"")).headers["grpc-status"] == "16"


async def test_metadata_that_is_not_utf_8_is_not_logged(service: Service, logs: StringIO) -> None:
    answered = await send(service.address, GET_MAILBOX, message(b""), ("x-auth-token", b"nearly-the-secret\xff"))
    assert answered.headers["grpc-status"] == "16"
    assert "nearly-the-secret" not in logs.getvalue()


# --- The health service


def unary(service: Service, path: str) -> Any:
    return service.channel().unary_unary(path)


async def test_a_malformed_health_check_is_an_invalid_argument(service: Service) -> None:
    for path in (CHECK, WATCH):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await unary(service, path)(b"\x0a\xff")
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert failure.value.details() == "invalid argument(s): request"


async def test_an_unknown_service_is_not_found(service: Service) -> None:
    request = health_pb2.HealthCheckRequest(service="x" * 10_000)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await unary(service, CHECK)(request.SerializeToString())
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    trailing: Any = dict(failure.value.trailing_metadata() or ())
    status, info = status_pb2.Status.FromString(trailing["grpc-status-details-bin"]), error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "NOT_FOUND"


async def test_the_services_are_listed(service: Service) -> None:
    raw = await unary(service, "/grpc.health.v1.Health/List")(b"")
    for name in (b"postroom.v1alpha1.MailboxService", b"postroom.admin.v1alpha1.AdminService"):
        assert name in raw


def watched(channel: Any, name: str) -> Any:
    return channel.unary_stream(WATCH)(health_pb2.HealthCheckRequest(service=name).SerializeToString())


async def next_status(call: Any) -> int:
    return health_pb2.HealthCheckResponse.FromString(await call.read()).status


async def test_watchers_are_told_of_each_change_and_none_delays_another() -> None:
    health = Health(["", "a"])
    server = Server(health.handlers(), ())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    response = health_pb2.HealthCheckResponse
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        # A client whose window is too small for any status.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        block = http2.header_block(
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", WATCH),
                (":authority", "localhost"),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
            ]
        )
        writer.write(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
        writer.write(http2.frame(http2.HEADERS, http2.END_HEADERS, 1, block))
        writer.write(http2.frame(http2.DATA, http2.END_STREAM, 1, message(b"")))
        await reader.readexactly(9)
        call, unknown = watched(channel, "a"), watched(channel, "b")
        assert await next_status(unknown) == response.SERVICE_UNKNOWN
        for reason, status in [(None, response.NOT_SERVING), ("", response.SERVING), ("a fault", response.NOT_SERVING)]:
            if reason is not None:
                health.set(reason)
            assert await next_status(call) == status
        health.set("")
        assert await next_status(call) == response.SERVING
        health.stop()
        health.set("")
        assert await next_status(call) == response.NOT_SERVING
        writer.close()
    await server.stop(0)


# --- A server that ends


async def test_the_process_does_not_go_on_without_a_server() -> None:
    server = Server(Health([""]).handlers(), ())
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    waiting = asyncio.create_task(until_stopped([server], asyncio.Event()))
    await asyncio.sleep(0)
    await server.stop(0)
    with pytest.raises(RuntimeError, match="ended by itself"):
        await waiting


async def test_a_stop_ends_the_wait_and_leaves_the_server_to_be_stopped() -> None:
    server = Server(Health([""]).handlers(), ())
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stop = asyncio.Event()
    waiting = asyncio.create_task(until_stopped([server], stop))
    stop.set()
    await waiting
    await server.stop(0)
