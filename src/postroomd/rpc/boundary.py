"""The boundary around every call: request id, authentication, idempotency, errors, metrics and log line.

One wrapper is faster than a chain of interceptors. It is outermost, since grpc.aio would send the text of an unexpected
exception to the caller.
"""

import asyncio
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from postroomd.domain.audit import AuditedCall
from postroomd.domain.context import CallContext, Idempotency, Replayed
from postroomd.domain.errors import (
    InvalidArguments,
    PermissionDenied,
    PostroomError,
    Reason,
    StorageUnavailable,
    TooManyRequests,
    Violation,
)
from postroomd.domain.policy import DEFAULT_QUOTAS, Quotas
from postroomd.observability.logs import LOGGED_CALL, RateLimitedWarning, get_logger
from postroomd.observability.metrics import CALLS_UNAUTHENTICATED
from postroomd.rpc.admission import Admission
from postroomd.rpc.authentication import Authentication, Caller, secret_of
from postroomd.rpc.client_address import ACCEPT_DETAILS, ClientAddresses, Metadata
from postroomd.rpc.connection_calls import Calls
from postroomd.rpc.methods import ResponseEncoder, Rpc, is_mutating, resource_of
from postroomd.rpc.metrics import RpcMetrics
from postroomd.rpc.rate_limits import NO_RATE_LIMITS, RateLimits
from postroomd.rpc.rejections import AT_ONCE, Rejections
from postroomd.rpc.request_metadata import client_certificate, idempotency_key_of, request_id_of, with_consistency
from postroomd.rpc.server import Handlers
from postroomd.rpc.status import STATUS_DETAILS, code_of, retry_pushback, status_of
from postroomd.rpc.tracing import traced
from postroomd.storage.protocols.repository import Repository

if TYPE_CHECKING:
    from postroomd.observability.tracing import Span, Tracer

RESPONSE_RETENTION = timedelta(hours=24)

_NO_CALLER = {"access_key": None, "organization_id": None}

log = get_logger()


def _unauthenticated_warning() -> RateLimitedWarning:
    return RateLimitedWarning("calls without a verified key", CALLS_UNAUTHENTICATED.labels())


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """Builds the gRPC handlers of a service from its RPCs.

    Tenants may send an idempotency key with a mutating RPC. It is ignored in the operator's RPCs, which are idempotent
    without one. While `refuses_calls` returns true, every call fails with UNAVAILABLE: the database lacks what isolates
    tenants.
    """

    repository: Repository
    authenticator: Authentication
    clock: Callable[[], datetime]
    addresses: ClientAddresses = field(default_factory=ClientAddresses)
    admission: Admission
    rate_limits: RateLimits = NO_RATE_LIMITS
    rejections: Rejections = AT_ONCE
    client_certificates: bool = False
    refuses_calls: Callable[[], bool] = lambda: False
    quotas: Quotas = DEFAULT_QUOTAS
    calls: Calls | None = None
    unauthenticated: RateLimitedWarning = field(default_factory=_unauthenticated_warning)
    tracer: "Tracer | None" = None

    def handlers(self, service: ServiceDescriptor, rpcs: Mapping[str, Rpc]) -> Handlers:
        """Return the handlers of every RPC of a service.

        Raises KeyError for an RPC without implementation, ValueError for one whose name contains no known resource.
        """
        return {
            f"/{service.full_name}/{method.name}": self._handler(method, rpcs[method.name])
            for method in service.methods
        }

    def _handler(self, method: MethodDescriptor, rpc: Rpc) -> Any:
        parse = GetMessageClass(method.input_type).FromString
        mutating = is_mutating(method)
        resource = resource_of(method)
        metrics = RpcMetrics(method)
        slots = self.admission.changes if mutating else self.admission.reads
        is_rate_limited = bool(self.rate_limits)

        async def call(_requests: object, grpc_context: Any, span: "Span | None" = None) -> bytes:
            raw = await grpc_context.read()
            started = perf_counter()
            metadata: Metadata = grpc_context.invocation_metadata()
            if self.calls is not None and raw is not grpc.aio.EOF:
                self.calls.received(grpc_context, metadata, raw)
            request_id = request_id_of(metadata)
            LOGGED_CALL.set((request_id, method.name))  # until the call's task ends
            trailing: tuple[tuple[str, str | bytes], ...] = (("x-request-id", request_id),)
            if span is not None:
                span.update({"postroom.request_id": request_id})
            caller: Caller | None = None
            admitted = False
            try:
                if self.refuses_calls():
                    raise StorageUnavailable
                caller = await self.authenticator.authenticate(metadata, grpc_context.peer)
                if self.calls is not None:
                    self.calls.verified(grpc_context)
                if raw is grpc.aio.EOF:
                    raise _no_message()
                if is_rate_limited:
                    taken = self.rate_limits.take(caller)
                    trailing += taken.trailing
                    if taken.retry_after_seconds:
                        raise TooManyRequests(taken.retry_after_seconds, "too many calls per second: try again later")
                if not slots.try_acquire(caller.organization_id):
                    await slots.acquire(caller.organization_id)
                admitted = True
                context = with_consistency(caller.context, metadata)
                if span is not None:
                    span.update({f"postroom.{name}": value for name, value in caller.log_fields.items()})
                    context = replace(context, span=span)
                if not mutating:
                    response = rpc.encode(await rpc.perform(_parse(parse, raw), context))
                else:
                    if caller.read_only:
                        raise PermissionDenied(resource, "write")
                    if (remaining := grpc_context.time_remaining()) is not None:
                        context = replace(context, deadline=monotonic() + remaining)
                    request = _parse(parse, raw)
                    origin = self._origin(metadata, grpc_context)
                    context = replace(context, audit=self._audited(method, request, request_id, origin))
                    encode = ResponseEncoder(rpc.encode)
                    if context.tenant and (key := idempotency_key_of(metadata)) is not None:
                        digest = _digest(secret_of(metadata), method, raw)
                        context = replace(context, idempotency=self._idempotency(rpc, key, digest, encode))
                    try:
                        if context.idempotency:
                            await self.repository.require_unused(context)
                        response = encode(await rpc.perform(request, context))
                    except Replayed as replayed:
                        response = await _replay(rpc, request, context, replayed)
                        trailing += (("idempotency-replayed", "true"),)
            except asyncio.CancelledError:
                metrics.completed("CANCELLED", started)
                if span is not None:
                    span.complete_rpc("CANCELLED")
                _log(caller, "CANCELLED", started, self._origin(metadata, grpc_context))
                raise
            except Exception as error:
                if not isinstance(error, PostroomError):
                    log.exception("unexpected error")
                status = status_of(error, request_id, all_details=ACCEPT_DETAILS in metadata)
                code = code_of(status)
                if span is not None:
                    span.complete_rpc(code.name)
                if not admitted and isinstance(error, TooManyRequests):
                    metrics.rejected(code.name)  # logged by sample
                else:
                    metrics.completed(code.name, started)
                    if caller is None and code is not grpc.StatusCode.INTERNAL:
                        self.unauthenticated.record()  # anyone could fill the log
                    else:
                        _log(caller, code.name, started, self._origin(metadata, grpc_context))
                if admitted and caller:
                    slots.release(caller.organization_id)
                    admitted = False
                await self.rejections.delay(error, metadata, grpc_context.time_remaining())
                details = (STATUS_DETAILS, status.SerializeToString())
                aborted = grpc_context.abort(code, status.message, (*trailing, *retry_pushback(error), details))
                # The context keeps the exception that `abort` raises, which keeps the frames of both: a cycle for each
                # failed call. For thousands of them, the garbage collector would stop every call for 0.2 s.
                error.__traceback__ = grpc_context = _requests = None
                await aborted
            finally:
                if admitted and caller:
                    slots.release(caller.organization_id)
            metrics.completed("OK", started)
            if span is not None:
                span.complete_rpc("OK")
            if mutating:
                _log(caller, "OK", started, self._origin(metadata, grpc_context))
            grpc_context.set_trailing_metadata(trailing)
            return response

        # Without a request deserializer: gRPC would report a malformed request as INTERNAL. As a stream of requests, of
        # which the first is read: gRPC would never answer a call that ends without a message.
        return grpc.stream_unary_rpc_method_handler(traced(self.tracer, method, call) if self.tracer else call)

    def _origin(self, metadata: Metadata, grpc_context: Any) -> Mapping[str, str]:
        """Return the log fields that tell where a call comes from: its address, and its certificate if it has one."""
        certificate = client_certificate(grpc_context) if self.client_certificates else {}
        return {"client_address": self.addresses.exact_address_of(metadata, grpc_context.peer()), **certificate}

    def _audited(
        self, method: MethodDescriptor, request: Message, request_id: str, origin: Mapping[str, str]
    ) -> AuditedCall:
        return AuditedCall(
            action=method.name,
            at=self.clock(),
            request_id=request_id,
            client_address=origin["client_address"],
            arguments=tuple(each.name for each, _ in request.ListFields()),
        )

    def _idempotency(self, rpc: Rpc, key: str, digest: bytes, encode: Callable[[Any], bytes]) -> Idempotency:
        now = self.clock()
        return Idempotency(
            key=key,
            digest=digest,
            encode=encode,
            now=now,
            expires_at=now + RESPONSE_RETENTION,
            rereads=rpc.current is not None,
            quotas=self.quotas,
        )


async def _replay(rpc: Rpc, request: Message, context: CallContext, replayed: Replayed) -> bytes:
    """Return the response of a call that was committed before, and that is repeated under its idempotency key."""
    if replayed.response or rpc.current is None:
        return replayed.response
    return rpc.encode(await rpc.current(request, replace(context, idempotency=None)))


def _digest(secret: str, method: MethodDescriptor, raw: bytes) -> bytes:
    """Return a digest of the RPC and the request, 32 bytes.

    The key of the HMAC is the caller's secret, which is not in the database: a request may hold a password, and with a
    plain digest anyone who can read the database could test candidates.
    """
    return hmac.digest(secret.encode(), method.full_name.encode() + b"\0" + raw, "sha256")


def _parse(parse: Callable[[bytes], Message], raw: bytes) -> Message:
    try:
        return parse(raw)
    except DecodeError:
        raise _no_message() from None


def _no_message() -> InvalidArguments:
    message = "must be a message of the RPC's request type, with strings in UTF-8"
    return InvalidArguments([Violation("request", Reason.FORMAT, message)])


def _log(caller: Caller | None, code: str, started: float, origin: Mapping[str, str]) -> None:
    """Log one line for a failed or mutating call: caller, its address and certificate, status code and duration."""
    severity = log.error if code in {"INTERNAL", "UNKNOWN"} else log.info
    severity(
        "call",
        code=code,
        duration_ms=round((perf_counter() - started) * 1_000, 3),
        **(caller.log_fields if caller else _NO_CALLER),
        **origin,
    )
