"""The spans of calls."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import MethodDescriptor

if TYPE_CHECKING:
    from postroomd.observability.tracing import Tracer


def traced(tracer: "Tracer", method: MethodDescriptor, call: Callable[..., Awaitable[bytes]]) -> Any:
    """Return a handler that runs `call` within a span."""
    name = f"{method.containing_service.full_name}/{method.name}"
    attributes = {"rpc.system.name": "grpc", "rpc.method": name}

    async def traced_call(requests: object, grpc_context: Any) -> bytes:
        span = tracer.server_span(name, grpc_context.invocation_metadata(), attributes)
        span.begin_logging()
        try:
            return await call(requests, grpc_context, span)
        finally:
            span.end()

    return traced_call
