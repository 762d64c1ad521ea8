"""What stands around every call: request id, authentication, the error boundary and the log line.

One wrapper rather than a chain of interceptors: a call passes it once each way. It is outermost, since grpc.aio would
answer an unexpected exception with its text.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, TypeAlias
from uuid import uuid4

import grpc
import structlog
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from postroomd.domain.errors import InvalidArguments, PermissionDenied, PostroomError, Reason, Violation
from postroomd.rpc.authentication import CALLER, Authenticator, Caller, Metadata
from postroomd.rpc.status import status_of

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
STATUS_DETAILS = "grpc-status-details-bin"

# The first of these that is in an RPC's name says what the RPC is about, in a refusal to change it.
_RESOURCES = ("Domain", "Mailbox", "Alias")

_CODES = {code.value[0]: code for code in grpc.StatusCode}

log = structlog.get_logger()

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour = Callable[[bytes, Any], Awaitable[Any]]


class Boundary(grpc.aio.ServerInterceptor):
    """Wraps the methods of one service; those of others, such as health, pass untouched."""

    def __init__(self, service: ServiceDescriptor, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._methods = {f"/{service.full_name}/{method.name}": method for method in service.methods}
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's handler inside the boundary; made once a method."""
        name = handler_call_details.method
        if name in self._wrapped:
            return self._wrapped[name]
        handler = await continuation(handler_call_details)
        if handler is None or name not in self._methods:
            return handler
        self._wrapped[name] = grpc.unary_unary_rpc_method_handler(
            self._wrap(self._methods[name], handler),
            request_deserializer=None,  # the wrapper parses: what can't be parsed is the caller's fault
            response_serializer=handler.response_serializer,
        )
        return self._wrapped[name]

    def _wrap(self, method: MethodDescriptor, handler: Handler) -> Behaviour:
        parse, handle = handler.request_deserializer, handler.unary_unary
        if parse is None or handle is None:
            raise TypeError(f"{method.full_name} is not a unary call of messages")
        mutates = changes_something(method)
        subject = next(name for name in _RESOURCES if name in method.name).lower()

        async def call(raw: bytes, context: Any) -> Any:
            started = perf_counter()
            metadata: Metadata = context.invocation_metadata()
            request_id = request_id_of(metadata)
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(request_id=request_id, rpc=method.name)
            caller: Caller | None = None
            try:
                caller = await self._authenticator.caller_of(metadata)
                if mutates and caller.read_only:
                    raise PermissionDenied(subject, "write")
                CALLER.set(caller)
                response = await handle(_parsed(parse, raw), context)
            except asyncio.CancelledError:
                _log(caller, "CANCELLED", started)
                raise
            except Exception as error:
                if not isinstance(error, PostroomError):
                    log.exception("unexpected error")
                status = status_of(error, request_id)
                code = _CODES[status.code]
                _log(caller, code.name, started)
                trailing = (("x-request-id", request_id), (STATUS_DETAILS, status.SerializeToString()))
                await context.abort(code, status.message, trailing)
            if mutates:
                _log(caller, "OK", started)
            context.set_trailing_metadata((("x-request-id", request_id),))
            return response

        return call


def changes_something(method: MethodDescriptor) -> bool:
    """Whether an RPC changes anything: all do that REST does not serve by GET."""
    return not method.GetOptions().Extensions[annotations_pb2.http].get


def request_id_of(metadata: Metadata) -> str:
    """The request id that the caller sent, or a new one where it sent none that is usable."""
    for name, value in metadata:
        if name == "x-request-id" and isinstance(value, str) and REQUEST_ID.fullmatch(value):
            return value
    return uuid4().hex


def _parsed(parse: Callable[[bytes], Message], raw: bytes) -> Message:
    try:
        return parse(raw)
    except DecodeError:
        violation = Violation("request", Reason.FORMAT, "not a message of the RPC's type (text is UTF-8)")
        raise InvalidArguments([violation]) from None


def _log(caller: Caller | None, code: str, started: float) -> None:
    """One line for a call that failed or changed something: who, what came of it, how long it took."""
    severity = log.error if code in {"INTERNAL", "UNKNOWN"} else log.info
    severity(
        "call",
        code=code,
        duration_ms=round((perf_counter() - started) * 1_000, 3),
        access_key=caller.access_key if caller else None,
        organization_id=caller.scope.organization_id if caller else None,
    )
