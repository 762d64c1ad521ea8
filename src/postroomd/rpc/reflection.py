"""Server reflection: clients such as grpcurl learn the contract from the service itself.

The descriptors include the google.rpc error details, so that clients decode them.
"""

from collections.abc import AsyncIterator, Collection
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from postroomd.rpc.health import abort_malformed
from postroomd.rpc.server import Handlers

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = reflection.SERVICE_NAME
_DETAILS = error_details_pb2.DESCRIPTOR
"""The import adds google/rpc/error_details.proto to the descriptor pool that reflection reads."""


class _Pool:
    """The default descriptor pool, which also finds the file of a method, as `grpcurl describe` asks for."""

    def __init__(self) -> None:
        self._pool: Any = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        """Return the file that defines a symbol. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file


def reflection_handlers(services: Collection[str]) -> Handlers:
    """Return the handlers of server reflection for the services, given by their full names.

    grpcio-reflection has v1alpha only. The messages of v1 are the same on the wire, so that one servicer serves both.
    """
    servicer: Any = reflection.aio.ReflectionServicer((*services, V1, V1ALPHA), pool=_Pool())

    async def info(raw: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        async for response in servicer.ServerReflectionInfo(_parsed(raw, context), context):
            yield response

    # Without a request deserializer: see Boundary.
    handler: Any = grpc.stream_stream_rpc_method_handler(
        info, response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString
    )
    return {f"/{name}/ServerReflectionInfo": handler for name in (V1, V1ALPHA)}


async def _parsed(raw: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
    """Yield the requests. Aborts the call for a malformed one."""
    async for message in raw:
        try:
            request = reflection_pb2.ServerReflectionRequest.FromString(message)
        except DecodeError:
            await abort_malformed(context, "ServerReflectionRequest")
        yield request
