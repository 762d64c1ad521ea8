"""gRPC server that implements any service of the descriptors with behaviors set by the test."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped, unused-ignore]

Context = grpc.aio.ServicerContext[Any, Any]
Behavior = Callable[[Any, Context], Awaitable[Message]]


@dataclass
class Call:
    """A received call."""

    rpc: str
    request: Any
    metadata: dict[str, str]
    seconds_left: float


@dataclass
class StubService:
    """Returns an empty message from each RPC, unless `behaviors` has a function under the RPC's name."""

    services: Iterable[ServiceDescriptor]
    port: int = 0
    behaviors: dict[str, Behavior] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    health: int = health_pb2.HealthCheckResponse.SERVING
    health_metadata: tuple[tuple[str, str], ...] = ()
    checks: int = 0
    before_check: Callable[[], Awaitable[None]] | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    _server: Any = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen on a free port, or on the previous port after a restart."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        for service in self.services:
            handlers = {method.name: self._handler(method) for method in service.methods}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        check = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=health_pb2.HealthCheckRequest.FromString,
            response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
        )
        health = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})
        self._server.add_generic_rpc_handlers((health,))
        self.port = self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    def respond_with(self, rpc: str, response: Message) -> None:
        async def behavior(_: Any, __: Context) -> Message:
            return response

        self.behaviors[rpc] = behavior

    def fail(
        self, rpc: str, code: grpc.StatusCode, text: str, details: Iterable[Message] | bytes | None = None
    ) -> None:
        """Fail with a status; `details` are google.rpc messages, raw bytes in their place, or None."""
        trailing: tuple[tuple[str, bytes], ...] = ()
        if isinstance(details, bytes):
            trailing = (("grpc-status-details-bin", details),)
        elif details is not None:
            status = status_pb2.Status(code=code.value[0], message=text)
            for each in details:
                status.details.add().Pack(each)
            trailing = (("grpc-status-details-bin", status.SerializeToString()),)

        async def behavior(_: Any, context: Context) -> Message:
            await context.abort(code, text, trailing_metadata=trailing)

        self.behaviors[rpc] = behavior

    def hold(self, rpc: str) -> asyncio.Event:
        """Block calls until the returned event is set. `cancelled` is set when a blocked call is cancelled."""
        release = asyncio.Event()

        async def behavior(request: Any, context: Context) -> Message:
            try:
                await release.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return self._empty(rpc)

        self.behaviors[rpc] = behavior
        return release

    def _empty(self, rpc: str) -> Message:
        methods = {method.name: method for service in self.services for method in service.methods}
        return GetMessageClass(methods[rpc].output_type)()

    async def _check(self, _: Any, context: Context) -> Any:
        self.checks += 1
        if self.before_check is not None:
            await self.before_check()
        context.set_trailing_metadata(self.health_metadata)
        return health_pb2.HealthCheckResponse(status=self.health)

    def _handler(self, method: MethodDescriptor) -> Any:
        async def handle(request: Message, context: Context) -> Message:
            metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
            self.calls.append(Call(method.name, request, metadata, context.time_remaining()))
            behavior = self.behaviors.get(method.name)
            return await behavior(request, context) if behavior else GetMessageClass(method.output_type)()

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
