"""gRPC's health service, grpc.health.v1, which also explains why a service is not serving.

The servicer of grpcio-health-checking has two faults that anyone who reaches the port can use. It answers a malformed
request with the text of the exception. It sets a status only after each watcher has taken the previous one: a single
watcher that reads nothing keeps the status from changing, and the process from stopping.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from postroomd.domain.errors import InvalidArguments, NotFound, Reason, Violation
from postroomd.rpc.request_metadata import request_id_of
from postroomd.rpc.server import Handlers
from postroomd.rpc.status import STATUS_DETAILS, code_of, status_of

NOT_SERVING_REASON = "x-not-serving-reason"
"""Trailing metadata of a health check that is not SERVING: the reason, in ASCII, without secrets."""

SERVICE: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]
MAX_NAME_LENGTH = 100  # of an unknown service, as an error repeats it

_Response = health_pb2.HealthCheckResponse
_ListResponse = GetMessageClass(SERVICE.methods_by_name["List"].output_type)


class Health:
    """The status of some services, given by their names; "" is all of them together. At first, none is serving.

    `calls_refused`: tenants' calls are refused for the reason that none is. Otherwise each fails or succeeds by itself,
    as while the database is unavailable.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.calls_refused = False
        self._names = frozenset(names)
        self._reason = "the service is starting"
        self._changed = asyncio.Event()  # a new one with each change
        self._stopped = False

    def set(self, reason: str) -> None:
        """Set the reason why no service is serving, empty if all are; without effect after `stop`."""
        if not self._stopped:
            self._set(reason)

    def stop(self) -> None:
        """Set NOT_SERVING permanently."""
        self._stopped = True
        self._set("the service is stopping")

    def _set(self, reason: str) -> None:
        self._reason = reason
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self) -> Any:
        return _Response.NOT_SERVING if self._reason else _Response.SERVING

    def handlers(self) -> Handlers:
        """Return the handlers of the service's RPCs."""
        # Streams of requests, without a deserializer: see Boundary.
        unary = {"Check": self._check, "List": self._list}
        handlers: dict[str, Any] = {
            name: grpc.stream_unary_rpc_method_handler(behaviour) for name, behaviour in unary.items()
        }
        handlers["Watch"] = grpc.stream_stream_rpc_method_handler(self._watch)
        return {f"/{SERVICE.full_name}/{name}": handler for name, handler in handlers.items()}

    async def _check(self, _requests: object, context: Any) -> bytes:
        name = await _service_name(context)
        if name not in self._names:
            await _abort(context, NotFound("service", name[:MAX_NAME_LENGTH]))
        if self._reason:
            context.set_trailing_metadata(((NOT_SERVING_REASON, self._reason),))
        response: bytes = _Response(status=self._status()).SerializeToString()
        return response

    async def _list(self, _requests: object, _context: Any) -> bytes:
        statuses = {name: _Response(status=self._status()) for name in self._names}
        return _ListResponse(statuses=statuses).SerializeToString()

    async def _watch(self, _requests: object, context: Any) -> None:
        name = await _service_name(context)
        sent = None
        while True:
            changed = self._changed
            status = self._status() if name in self._names else _Response.SERVICE_UNKNOWN
            if status != sent:
                await context.write(_Response(status=status).SerializeToString())
                sent = status
            await changed.wait()


async def _service_name(context: Any) -> str:
    """Return the name in the request. Aborts the call if there is none, or a malformed one."""
    raw = await context.read()
    try:
        if raw is not grpc.aio.EOF:
            return str(health_pb2.HealthCheckRequest.FromString(raw).service)
    except DecodeError:
        pass
    return await abort_malformed(context, "HealthCheckRequest")


async def abort_malformed(context: Any, message_type: str) -> NoReturn:
    """Abort a call whose request is not a message of that type."""
    message = f"must be a {message_type}, with strings in UTF-8"
    await _abort(context, InvalidArguments([Violation("request", Reason.FORMAT, message)]))


async def _abort(context: Any, error: InvalidArguments | NotFound) -> NoReturn:
    status = status_of(error, request_id_of(context.invocation_metadata()))
    await context.abort(code_of(status), status.message, ((STATUS_DETAILS, status.SerializeToString()),))
    raise AssertionError("gRPC has not aborted")
