"""Server reflection, with descriptors of the contract and of the error details."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from tests.rpc.service import Service, running_service

pytestmark = pytest.mark.asyncio(loop_scope="module")
VERSIONS = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]
TENANTS = "postroom.v1alpha1.MailboxService"
OPERATOR = "postroom.admin.v1alpha1.AdminService"


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return {"grpc_reflection": "true", "admin_address": "127.0.0.1:0"}


async def ask(
    service: Service, version: str, *requests: ServerReflectionRequest, address: str | None = None
) -> list[ServerReflectionResponse]:
    async def sent() -> AsyncIterator[ServerReflectionRequest]:
        for request in requests:
            yield request

    call = service.channel(address=address).stream_stream(
        f"/{version}/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    return [response async for response in call(sent(), timeout=20)]


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_address_lists_its_own_services(service: Service, version: str) -> None:
    listing = ServerReflectionRequest(list_services="*")
    for address, own, other in (
        (service.address, TENANTS, OPERATOR),
        (service.admin_address, OPERATOR, TENANTS),
    ):
        (response,) = await ask(service, version, listing, address=address)
        names = {found.name for found in response.list_services_response.service}
        assert names >= {own, "grpc.health.v1.Health", *VERSIONS}
        assert other not in names


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "symbol",
    [TENANTS, f"{TENANTS}.GetMailbox", "postroom.v1alpha1.Mailbox", "google.rpc.BadRequest", "google.rpc.Status"],
)
async def test_descriptors_come_with_all_their_imports(service: Service, version: str, symbol: str) -> None:
    (response,) = await ask(service, version, ServerReflectionRequest(file_containing_symbol=symbol))
    files = [FileDescriptorProto.FromString(raw) for raw in response.file_descriptor_response.file_descriptor_proto]
    defined = {
        f"{file.package}.{name}"
        for file in files
        for name in (
            *(found.name for found in file.message_type),
            *(found.name for found in file.service),
            *(f"{found.name}.{method.name}" for found in file.service for method in found.method),
        )
    }
    assert symbol in defined
    assert {dependency for file in files for dependency in file.dependency} <= {file.name for file in files}


async def test_a_malformed_request_is_an_invalid_argument(service: Service) -> None:
    method: Any = service.channel().stream_stream(f"/{VERSIONS[0]}/ServerReflectionInfo")
    call = method(iter([b"\x0a\xff"]))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call.read()
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.value.details() == "invalid argument(s): request"


async def test_reflection_is_off_by_default(tmp_path: Path) -> None:
    async with running_service(tmp_path, {}) as service:
        with pytest.raises(grpc.RpcError) as failed:
            await ask(service, VERSIONS[0], ServerReflectionRequest(list_services="*"))
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
