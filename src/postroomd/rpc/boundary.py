"""The boundary around every call: request id, authentication, idempotency, errors, metrics and the log line.

One wrapper rather than a chain of interceptors: a call passes it once each way. It is outermost, since grpc.aio would
send the text of an unexpected exception to the caller.
"""

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import getrandbits
from time import monotonic, perf_counter
from typing import Any

import grpc
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from postroomd.domain.context import CallContext, Consistency, Idempotency, Replayed
from postroomd.domain.errors import (
    InvalidArguments,
    PermissionDenied,
    PostroomError,
    Reason,
    TooManyRequests,
    Violation,
)
from postroomd.observability.logs import LOGGED_CALL, get_logger
from postroomd.rpc.admission import RETRY_SECONDS, Admission, Refuse
from postroomd.rpc.authentication import Authenticator, Caller, Metadata, secret_of
from postroomd.rpc.metrics import RpcMetrics
from postroomd.rpc.status import status_of
from postroomd.storage.protocols.repository import Repository

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")
RESPONSE_RETENTION = timedelta(hours=24)
STATUS_DETAILS = "grpc-status-details-bin"

# The first of these in an RPC's name is the resource that PermissionDenied names.
_RESOURCES = ("Domain", "Mailbox", "Alias", "Payment", "Provision", "Transition")

_NO_CALLER = {"access_key": None, "organization_id": None}

_CODES = {code.value[0]: code for code in grpc.StatusCode}

log = get_logger()


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC: `perform` executes it, `response` converts its result.

    They are separate so that the response can be stored in the transaction of its effect. An RPC that changes something
    makes one scoped write, and returns that write's result.
    """

    perform: Callable[[Any, CallContext], Awaitable[Any]]
    response: Callable[[Any], Message]

    def encode(self, result: Any) -> bytes:
        """Return the octets of the response to a result."""
        return self.response(result).SerializeToString()


class ResponseEncoder:
    """Encodes the response of one call, once for each result: for the transaction that stores it, and for the caller.

    A retried transaction has another result, whose response is encoded anew.
    """

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self._encode = encode
        self._latest: tuple[Any, bytes] | None = None

    def __call__(self, result: Any) -> bytes:
        """Return the octets of the response to a result."""
        if self._latest is None or self._latest[0] is not result:
            self._latest = (result, self._encode(result))
        return self._latest[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """Makes the gRPC handlers of a service out of its RPCs.

    Tenants may send an idempotency key with an RPC that changes something; the operator's RPCs are idempotent by
    themselves.
    """

    repository: Repository
    authenticator: Authenticator[Any]
    clock: Callable[[], datetime]
    admission: Admission

    def handlers(self, service: ServiceDescriptor, rpcs: Mapping[str, Rpc]) -> grpc.GenericRpcHandler:
        """Return the handlers of every RPC of a service.

        Raises KeyError for an RPC that has no implementation, ValueError for one whose name contains no known resource.
        """
        methods = {method.name: self._handler(method, rpcs[method.name]) for method in service.methods}
        return grpc.method_handlers_generic_handler(service.full_name, methods)

    def _handler(self, method: MethodDescriptor, rpc: Rpc) -> Any:
        parse = GetMessageClass(method.input_type).FromString
        mutates = changes_something(method)
        resource = resource_of(method)
        metrics = RpcMetrics(method)

        async def call(raw: bytes, grpc_context: Any) -> bytes:
            started = perf_counter()
            metadata: Metadata = grpc_context.invocation_metadata()
            request_id = request_id_of(metadata)
            LOGGED_CALL.set((request_id, method.name))  # reset with the call's task
            trailing: tuple[tuple[str, str | bytes], ...] = (("x-request-id", request_id),)
            caller: Caller | None = None
            try:
                caller = await self.authenticator.authenticate(metadata)
                context = _with_consistency(caller.context, metadata)
                if not mutates:
                    response = rpc.encode(await rpc.perform(_parsed(parse, raw), context))
                else:
                    if caller.read_only:
                        raise PermissionDenied(resource, "write")
                    if (remaining := grpc_context.time_remaining()) is not None:
                        context = replace(context, deadline=monotonic() + remaining)
                    request = _parsed(parse, raw)
                    encode = ResponseEncoder(rpc.encode)
                    if context.tenant and (key := _idempotency_key(metadata)) is not None:
                        digest = _digest(secret_of(metadata), method, raw)
                        context = replace(context, idempotency=self._idempotency(key, digest, encode))
                        await self.repository.require_unused(context)
                    response = encode(await rpc.perform(request, context))
            except Replayed as replayed:
                response = replayed.response
                trailing += (("idempotency-replayed", "true"),)
            except asyncio.CancelledError:
                metrics.completed("CANCELLED", started)
                _log(caller, "CANCELLED", started)
                raise
            except Exception as error:
                if not isinstance(error, PostroomError):
                    log.exception("unexpected error")
                status = status_of(error, request_id, all_details=("x-accept-details", "all") in metadata)
                code = _CODES[status.code]
                metrics.completed(code.name, started)
                _log(caller, code.name, started)
                details = (STATUS_DETAILS, status.SerializeToString())
                await grpc_context.abort(code, status.message, (*trailing, details))
            metrics.completed("OK", started)
            if mutates:
                _log(caller, "OK", started)
            grpc_context.set_trailing_metadata(trailing)
            return response

        # The request is passed as octets: if it can't be parsed, the boundary reports that as the caller's error.
        return grpc.unary_unary_rpc_method_handler(self.admission.admitting(call, _refusing(metrics), changes=mutates))

    def _idempotency(self, key: str, digest: bytes, encode: Callable[[Any], bytes]) -> Idempotency:
        now = self.clock()
        return Idempotency(key=key, digest=digest, encode=encode, now=now, expires_at=now + RESPONSE_RETENTION)


def _digest(secret: str, method: MethodDescriptor, raw: bytes) -> bytes:
    """Return a digest of the RPC and the request, 32 octets.

    It is keyed by the caller's secret, which is not in the database: a request may hold a password, and a plain digest
    would let whoever reads the database try candidates for it.
    """
    return hmac.digest(secret.encode(), method.full_name.encode() + b"\0" + raw, "sha256")


def resource_of(method: MethodDescriptor) -> str:
    """Return the resource type that an RPC is about, such as `mailbox`. Raises ValueError for an unknown one."""
    for name in _RESOURCES:
        if name in method.name:
            return name.lower()
    raise ValueError(f"{method.full_name}: its name contains none of the resources {', '.join(_RESOURCES)}")


def _refusing(metrics: RpcMetrics) -> Refuse:
    """Return what refuses a call when every admission slot is taken. Its status is built once."""
    status = status_of(TooManyRequests(RETRY_SECONDS), "")
    code, details = _CODES[status.code], (STATUS_DETAILS, status.SerializeToString())

    async def refuse(grpc_context: Any) -> None:
        metrics.rejected(code.name)
        request_id = request_id_of(grpc_context.invocation_metadata())
        await grpc_context.abort(code, status.message, (("x-request-id", request_id), details))

    return refuse


def changes_something(method: MethodDescriptor) -> bool:
    """Whether an RPC changes anything: REST does not map it to GET, and it has no NO_SIDE_EFFECTS option."""
    options = method.GetOptions()
    reads = options.Extensions[annotations_pb2.http].get or options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    return not reads


def request_id_of(metadata: Metadata) -> str:
    """Return the caller's request id if it sent a valid one, else a new one."""
    for name, value in metadata:
        if name == "x-request-id" and isinstance(value, str) and REQUEST_ID.fullmatch(value):
            return value
    # A request id must be unique, not secret. os.urandom is a system call, which hands the interpreter lock to another
    # thread.
    return f"{getrandbits(128):032x}"


def _with_consistency(context: CallContext, metadata: Metadata) -> CallContext:
    """Return the context with the consistency that the caller asks for. Raises InvalidArguments for an unknown one."""
    if context.tenant is None:
        return context
    asked = {value for name, value in metadata if name == "x-consistency"}
    if not asked:
        return context
    if asked - {"strong"}:
        raise InvalidArguments([Violation("x-consistency", Reason.CONSTRAINT, "`strong`, or nothing")])
    return replace(context, consistency=Consistency.STRONG)


def _idempotency_key(metadata: Metadata) -> str | None:
    """Return the call's idempotency key, None without one. Raises InvalidArguments for a malformed key, or two."""
    keys = [str(value) for name, value in metadata if name == "idempotency-key"]
    if not keys:
        return None
    if len(keys) > 1 or not IDEMPOTENCY_KEY.fullmatch(keys[0]):
        message = "one key of 1 to 255 visible ASCII characters"
        raise InvalidArguments([Violation("idempotency-key", Reason.FORMAT, message)])
    return keys[0]


def _parsed(parse: Callable[[bytes], Message], raw: bytes) -> Message:
    try:
        return parse(raw)
    except DecodeError:
        violation = Violation("request", Reason.FORMAT, "not a message of the RPC's type (text is UTF-8)")
        raise InvalidArguments([violation]) from None


def _log(caller: Caller | None, code: str, started: float) -> None:
    """Log one line for a call that failed or changed something: caller, status code and duration."""
    severity = log.error if code in {"INTERNAL", "UNKNOWN"} else log.info
    severity(
        "call",
        code=code,
        duration_ms=round((perf_counter() - started) * 1_000, 3),
        **(caller.log_fields if caller else _NO_CALLER),
    )
