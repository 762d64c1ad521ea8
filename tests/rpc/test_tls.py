"""TLS of the gRPC service: plain text, authorities, client certificates and rotation."""

import asyncio
import os
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import grpc
import pytest

from postroom.v1alpha1.domain_pb2 import CreateDomainRequest, ListDomainsRequest
from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub
from postroomd.tls import PemFiles
from tests.rpc.client import Tenant, fresh_name
from tests.rpc.service import Service, running_service
from tests.support.certificates import Authority
from tests.support.waiting import wait_until

NAME = "127.0.0.1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


def settings_of(files: PemFiles, ca: Path | None = None) -> Mapping[str, str]:
    settings = {"tls_cert": str(files.cert), "tls_key": str(files.key), "admin_address": "127.0.0.1:0"}
    return settings if ca is None else settings | {"tls_client_ca": str(ca)}


async def list_domains(service: Service, tenant: Tenant, roots: bytes | None, own: PemFiles | None = None) -> None:
    """Call the service on a connection of its own. Raises grpc.RpcError."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    if roots is None:
        channel = grpc.aio.insecure_channel(service.address, options)
    else:
        pair = (own.key.read_bytes(), own.cert.read_bytes()) if own and own.key and own.cert else (None, None)
        channel = grpc.aio.secure_channel(service.address, grpc.ssl_channel_credentials(roots, *pair), options)
    async with channel:
        await MailboxServiceStub(channel).ListDomains(ListDomainsRequest(), metadata=tenant.metadata, timeout=20)


async def test_only_clients_of_the_authority_connect(tmp_path: Path, authority: Authority) -> None:
    async with running_service(tmp_path, settings_of(authority.issue("server", NAME))) as service:
        tenant = await service.tenant()
        await list_domains(service, tenant, authority.pem)
        for roots in (None, Authority(tmp_path / "other").pem):
            with pytest.raises(grpc.RpcError) as failed:
                await list_domains(service, tenant, roots)
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_client_certificates_are_required_and_logged(
    tmp_path: Path, authority: Authority, logs: StringIO
) -> None:
    clients = Authority(tmp_path / "clients")
    own = clients.issue("client", "billing.example")
    async with running_service(tmp_path, settings_of(authority.issue("server", NAME), clients.path)) as service:
        tenant = await service.tenant()
        await list_domains(service, tenant, authority.pem, own)
        for stranger in (None, authority.issue("stranger", "stranger.example")):
            with pytest.raises(grpc.RpcError) as failed:
                await list_domains(service, tenant, authority.pem, stranger)
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert own.key is not None
        assert own.cert is not None
        credentials = grpc.ssl_channel_credentials(authority.pem, own.key.read_bytes(), own.cert.read_bytes())
        async with grpc.aio.secure_channel(service.address, credentials) as channel:
            request = CreateDomainRequest(name=fresh_name())
            await MailboxServiceStub(channel).CreateDomain(request, metadata=tenant.metadata, timeout=20)
    assert "billing.example" in logs.getvalue()
    assert "stranger.example" not in logs.getvalue()


async def test_rotation_fails_no_call(tmp_path: Path, authority: Authority, logs: StringIO) -> None:
    files = authority.issue("server", NAME)
    successor = Authority(tmp_path / "successor")
    issued = successor.issue("server", NAME)
    async with running_service(tmp_path, settings_of(files)) as service:
        tenant = await service.tenant()
        rotated = asyncio.Event()
        calls = 0

        async def keep_calling() -> None:
            nonlocal calls
            while not rotated.is_set():
                await list_domains(service, tenant, authority.pem + successor.pem)
                calls += 1

        calling = [asyncio.create_task(keep_calling()) for _ in range(2)]
        for old, new in zip(files.paths, issued.paths, strict=True):
            renewed = old.with_suffix(".new")
            renewed.write_bytes(new.read_bytes())
            os.replace(renewed, old)  # noqa: PTH105
        await wait_until(lambda: "certificates reloaded" in logs.getvalue())
        await list_domains(service, tenant, successor.pem)  # the new certificate is in use
        rotated.set()
        await asyncio.gather(*calling)
        assert calls
