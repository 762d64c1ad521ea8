"""What stands around every call: request id, authentication, idempotency, the error boundary and the log line.

One wrapper rather than a chain of interceptors: a call passes it once each way. It is outermost, since grpc.aio would
answer an unexpected exception with its text.
"""

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
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

from postroomd.domain.errors import (
    InvalidArguments,
    PermissionDenied,
    PostroomError,
    Reason,
    TooManyRequests,
    Violation,
)
from postroomd.observability.logs import CALL, get_logger
from postroomd.rpc.admission import RETRY_SECONDS, Admission, Refuse
from postroomd.rpc.authentication import CALLER, Authenticator, Caller, Metadata, Operator, secret_of
from postroomd.rpc.metrics import Handled
from postroomd.rpc.status import status_of
from postroomd.storage.database import ACTOR, DEADLINE, STRONG
from postroomd.storage.idempotency import ONCE, Once, Replayed
from postroomd.storage.protocols.repository import Repository

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")
ANSWERS_KEPT = timedelta(hours=24)
STATUS_DETAILS = "grpc-status-details-bin"

# The first of these that is in an RPC's name says what the RPC is about, in a refusal to change it.
_RESOURCES = ("Domain", "Mailbox", "Alias", "Payment", "Provision", "Transition")

_NOBODY = {"access_key": None, "organization_id": None}

_CODES = {code.value[0]: code for code in grpc.StatusCode}

log = get_logger()


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC: what does it, and what makes its response of the result.

    The two stand apart so that the response can be stored in the transaction that made the result. An RPC that changes
    something makes one scoped write, and its result is that write's.
    """

    perform: Callable[[Any], Awaitable[Any]]
    response: Callable[[Any], Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """Makes the gRPC handlers of a service out of its RPCs.

    Callers who are tenants may send an idempotency key with what changes something: an operator's calls need none.
    """

    repository: Repository
    authenticator: Authenticator[Any, Caller] | Authenticator[Any, Operator]
    clock: Callable[[], datetime]
    admission: Admission

    def handlers(self, service: ServiceDescriptor, rpcs: Mapping[str, Rpc]) -> grpc.GenericRpcHandler:
        """The handlers of every RPC of a service. Raises KeyError for an RPC that nothing serves."""
        methods = {method.name: self._handler(method, rpcs[method.name]) for method in service.methods}
        return grpc.method_handlers_generic_handler(service.full_name, methods)

    def _handler(self, method: MethodDescriptor, rpc: Rpc) -> Any:
        parse = GetMessageClass(method.input_type).FromString
        mutates = changes_something(method)
        subject = next(name for name in _RESOURCES if name in method.name).lower()
        handled = Handled(method)

        async def call(raw: bytes, context: Any) -> bytes:
            started = perf_counter()
            metadata: Metadata = context.invocation_metadata()
            request_id = request_id_of(metadata)
            CALL.set((request_id, method.name))  # gone with the call's task
            trailing: tuple[tuple[str, str | bytes], ...] = (("x-request-id", request_id),)
            caller: Caller | Operator | None = None
            try:
                caller = await self.authenticator.caller_of(metadata)
                tenant = caller if isinstance(caller, Caller) else None
                if tenant:
                    CALLER.set(tenant)
                    STRONG.set(_wants_strong_reads(metadata))
                if mutates:
                    if caller.read_only:
                        raise PermissionDenied(subject, "write")
                    ACTOR.set(caller.actor)
                    if (remaining := context.time_remaining()) is not None:
                        DEADLINE.set(monotonic() + remaining)
                request = _parsed(parse, raw)
                if tenant and mutates and (key := _idempotency_key(metadata)) is not None:
                    ONCE.set(self._once(key, method, rpc, raw, secret_of(metadata)))
                    await self.repository.require_unused(tenant.scope)
                response = rpc.response(await rpc.perform(request)).SerializeToString()
            except Replayed as replayed:
                response = replayed.answer
                trailing += (("idempotency-replayed", "true"),)
            except asyncio.CancelledError:
                handled.ended("CANCELLED", started)
                _log(caller, "CANCELLED", started)
                raise
            except Exception as error:
                if not isinstance(error, PostroomError):
                    log.exception("unexpected error")
                status = status_of(error, request_id, all_details=("x-accept-details", "all") in metadata)
                code = _CODES[status.code]
                handled.ended(code.name, started)
                _log(caller, code.name, started)
                await context.abort(code, status.message, (*trailing, (STATUS_DETAILS, status.SerializeToString())))
            handled.ended("OK", started)
            if mutates:
                _log(caller, "OK", started)
            context.set_trailing_metadata(trailing)
            return response

        # Octets go through as they are: what can't be parsed is the caller's fault, and told by us.
        return grpc.unary_unary_rpc_method_handler(self.admission.admitting(call, _refusing(handled), changes=mutates))

    def _once(self, key: str, method: MethodDescriptor, rpc: Rpc, raw: bytes, secret: str) -> Once:
        now = self.clock()
        # The request may hold a password, which a plain digest in the database would let be guessed at leisure. The
        # caller's secret is in no database.
        digest = hmac.digest(secret.encode(), method.full_name.encode() + b"\0" + raw, "sha256")
        return Once(
            key=key,
            digest=digest,
            answer=lambda result: rpc.response(result).SerializeToString(),
            expires_at=now + ANSWERS_KEPT,
            now=now,
        )


def _refusing(handled: Handled) -> Refuse:
    """What refuses a call that there is no place for. Its status is made once."""
    status = status_of(TooManyRequests(RETRY_SECONDS), "")
    code, details = _CODES[status.code], (STATUS_DETAILS, status.SerializeToString())

    async def refuse(context: Any) -> None:
        handled.refused(code.name)
        request_id = request_id_of(context.invocation_metadata())
        await context.abort(code, status.message, (("x-request-id", request_id), details))

    return refuse


def changes_something(method: MethodDescriptor) -> bool:
    """Whether an RPC changes anything: all do that REST does not serve by GET, or that say that they don't."""
    options = method.GetOptions()
    reads = options.Extensions[annotations_pb2.http].get or options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    return not reads


def request_id_of(metadata: Metadata) -> str:
    """The request id that the caller sent, or a new one where it sent none that is usable."""
    for name, value in metadata:
        if name == "x-request-id" and isinstance(value, str) and REQUEST_ID.fullmatch(value):
            return value
    # An id needs to be another one each time, not a secret: the system's entropy would be a system call, during which
    # the interpreter lock goes to whatever thread waits for it.
    return f"{getrandbits(128):032x}"


def _wants_strong_reads(metadata: Metadata) -> bool:
    """Whether a list must not come from a replica. Raises InvalidArguments for a consistency that there is not."""
    asked = {value for name, value in metadata if name == "x-consistency"}
    if asked - {"strong"}:
        raise InvalidArguments([Violation("x-consistency", Reason.CONSTRAINT, "`strong`, or nothing")])
    return bool(asked)


def _idempotency_key(metadata: Metadata) -> str | None:
    """The call's idempotency key, if it has one. Raises InvalidArguments for one that is malformed, or two."""
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


def _log(caller: Caller | Operator | None, code: str, started: float) -> None:
    """One line for a call that failed or changed something: who, what came of it, how long it took."""
    severity = log.error if code in {"INTERNAL", "UNKNOWN"} else log.info
    severity(
        "call",
        code=code,
        duration_ms=round((perf_counter() - started) * 1_000, 3),
        **(caller.logged if caller else _NOBODY),
    )
