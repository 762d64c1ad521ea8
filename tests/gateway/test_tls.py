"""HTTPS of the gateway: handshakes, client certificates, rotation, and the limits of silent connections."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from postroomd.gateway.app import SERVICES, GatewayConfig, open_gateway
from postroomd.gateway.connection_table import ConnectionTable
from postroomd.gateway.http_server import listen
from postroomd.tls import PemFiles, Reloading, http_context
from tests.gateway.client import PREFIX, TOKEN
from tests.gateway.stub_service import StubService
from tests.support.certificates import Authority
from tests.support.waiting import wait_until

NAME = "127.0.0.1"
Serve = Callable[..., Awaitable["Https"]]


class Https:
    """A gateway that speaks TLS, in front of a stub service."""

    def __init__(self, port: int, table: ConnectionTable, certificates: Reloading) -> None:
        self.port, self.table, self.certificates = port, table, certificates
        self.url = f"https://{NAME}:{port}{PREFIX}/domains"

    async def get(self, context: ssl.SSLContext, method: str = "GET") -> int:
        """The status of a request on a connection of its own."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.request(method, self.url, headers={"X-Auth-Token": TOKEN}, json={}) as response,
        ):
            return response.status

    async def silent(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that sends nothing."""
        return await asyncio.open_connection(NAME, self.port)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def starter(files: PemFiles, **config: Any) -> Https:
            stub = StubService(SERVICES)
            await stub.start()
            stack.push_async_callback(stub.stop)
            settings = GatewayConfig(grpc_address=stub.address, **config)
            _, server = await stack.enter_async_context(open_gateway(settings))
            table = ConnectionTable(settings.connection_limits)
            certificates = Reloading(files, "http")
            listener = await listen(server, table, NAME, 0, tls=http_context(certificates))
            stack.callback(listener.close)
            return Https(listener.sockets[0].getsockname()[1], table, certificates)

        yield starter


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_requests_over_tls(serve: Serve, authority: Authority, version: ssl.TLSVersion) -> None:
    gateway = await serve(authority.issue("server", NAME))
    context = authority.client_context()
    context.minimum_version = context.maximum_version = version
    assert await gateway.get(context) == 200
    await wait_until(lambda: not len(gateway.table))


def test_older_versions_of_tls_are_refused(authority: Authority) -> None:
    context = http_context(Reloading(authority.issue("server", NAME), "http"))()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


async def test_a_plain_text_request_is_refused(serve: Serve, authority: Authority) -> None:
    gateway = await serve(authority.issue("server", NAME))
    reader, writer = await gateway.silent()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    received = await asyncio.wait_for(reader.read(), 20)
    assert b"HTTP" not in received
    writer.close()
    await wait_until(lambda: not len(gateway.table))


async def test_a_client_of_another_authority_refuses_the_gateway(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    gateway = await serve(authority.issue("server", NAME))
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await gateway.get(Authority(tmp_path / "other").client_context())
    await wait_until(lambda: not len(gateway.table))


async def test_client_certificates_are_required_and_logged(
    serve: Serve, authority: Authority, tmp_path: Path, logs: Any
) -> None:
    clients = Authority(tmp_path / "clients")
    gateway = await serve(replace(authority.issue("server", NAME), ca=clients.path))
    trusted = authority.client_context(clients.issue("client", "billing.example"))
    assert await gateway.get(trusted, "POST") == 200
    assert [line["client_certificate"] for line in logs if line["event"] == "call"] == ["billing.example"]
    for own in (None, authority.issue("stranger", "stranger.example")):
        with pytest.raises((aiohttp.ClientError, OSError)):
            await gateway.get(authority.client_context(own))


async def test_rotation_fails_no_request(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    gateway = await serve(authority.issue("server", NAME))
    successor = Authority(tmp_path / "successor")
    both = ssl.create_default_context(cadata=(authority.pem + successor.pem).decode())
    rotated = asyncio.Event()
    statuses: list[int] = []

    async def keep_calling() -> None:
        while not rotated.is_set():
            statuses.append(await gateway.get(both))

    calling = [asyncio.create_task(keep_calling()) for _ in range(3)]
    issued = successor.issue("server", NAME)
    for old, new in zip(gateway.certificates._files.paths, issued.paths, strict=True):
        old.write_bytes(new.read_bytes())  # the certificate first: for a moment the two do not fit
        await gateway.certificates.check()
    await gateway.certificates.check()
    await gateway.certificates.check()
    assert await gateway.get(successor.client_context()) == 200
    rotated.set()
    await asyncio.gather(*calling)
    assert set(statuses) == {200}


async def test_a_silent_client_is_closed_before_its_handshake(serve: Serve, authority: Authority) -> None:
    gateway = await serve(authority.issue("server", NAME), header_timeout_seconds=0.2)
    reader, writer = await gateway.silent()
    assert await asyncio.wait_for(reader.read(), 20) == b""
    await wait_until(lambda: not len(gateway.table))
    writer.close()


async def test_silent_clients_make_way_for_others(serve: Serve, authority: Authority) -> None:
    gateway = await serve(authority.issue("server", NAME), max_connections=2)
    silent = [await gateway.silent() for _ in range(12)]
    assert await gateway.get(authority.client_context()) == 200
    assert len(gateway.table) <= 3
    for _, writer in silent:
        writer.close()
    await wait_until(lambda: not len(gateway.table))


async def test_a_request_that_arrives_with_the_handshake_is_answered(serve: Serve, authority: Authority) -> None:
    gateway = await serve(authority.issue("server", NAME))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client_context().wrap_bio(incoming, outgoing, server_hostname=NAME)
    reader, writer = await gateway.silent()
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await asyncio.wait_for(reader.read(65_536), 20))
    client.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    writer.write(outgoing.read())  # in one segment with the end of the handshake
    incoming.write(await asyncio.wait_for(reader.read(), 20))
    assert client.read(65_536).startswith(b"HTTP/1.1 200")
    writer.close()
