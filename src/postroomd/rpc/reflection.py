"""Server reflection: clients such as grpcurl learn the contract from the service itself.

The descriptors include the google.rpc error details, so that clients decode them.
"""

from collections.abc import Collection

import grpc
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = reflection.SERVICE_NAME
_DETAILS = error_details_pb2.DESCRIPTOR
"""The import adds google/rpc/error_details.proto to the descriptor pool that reflection reads."""


def reflection_handlers(services: Collection[str]) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return the handlers of server reflection for the services, given by their full names.

    grpcio-reflection has v1alpha only. The messages of v1 are the same on the wire, so that one servicer serves both.
    """
    servicer = reflection.aio.ReflectionServicer((*services, V1, V1ALPHA))
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return tuple(grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method}) for name in (V1, V1ALPHA))
