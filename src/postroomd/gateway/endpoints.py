"""Endpoints of the RPCs: one HTTP request becomes one gRPC call."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import grpc
from aiohttp import hdrs, web
from google.protobuf.message import Message

from postroomd.gateway import headers
from postroomd.gateway.admission import Slots
from postroomd.gateway.body import BodyLimits, BodyReader, check_declared_length
from postroomd.gateway.channel import ServiceChannel
from postroomd.gateway.errors import RequestError, error_response, from_rpc_error, invalid_arguments
from postroomd.gateway.long_lists import LongLists, is_long
from postroomd.gateway.responses import HEADERS, json_response, no_content
from postroomd.gateway.routes import Route
from postroomd.gateway.transcode import Transcoder
from postroomd.gateway.violations import InvalidArguments, Violation
from postroomd.pacing import LateAnswers

if TYPE_CHECKING:
    from postroomd.observability.tracing import Span

ACCEPT_DETAILS = ("x-accept-details", "all")  # open_channel raises the metadata limit accordingly
COPIED_HEADERS = {
    name.lower(): name
    for name in ("Idempotency-Replayed", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset")
}
"""Headers of responses, by the names of trailing metadata."""
# Decoding 1 MiB of small JSON values takes up to a second: larger bodies are decoded outside the event loop.
MAX_INLINE_BODY_BYTES = 65_536


@dataclass(frozen=True)
class EndpointOptions:
    """Deadline of gRPC calls and delay of rejections, in seconds, and limits of request bodies."""

    call_timeout_seconds: float = 30.0
    rejection_delay_seconds: float = 0.5
    body: BodyLimits = field(default_factory=BodyLimits)


class Shared:
    """What the endpoints of a gateway share."""

    def __init__(self, options: EndpointOptions) -> None:
        self.bodies = BodyReader(options.body)
        self.long_lists = LongLists()
        self.late_answers = LateAnswers(options.rejection_delay_seconds)


class IncomingRequest(NamedTuple):
    """A routed request. `captured` are the variable segments of the path, percent-encoded.

    `span` is the span below which the service's spans are, None unless tracing is on.
    """

    http: web.BaseRequest
    captured: tuple[str, ...]
    request_id: str
    client_address: str
    span: "Span | None" = None


class Endpoint(Protocol):
    """Handler of a route."""

    @property
    def rpc(self) -> str:
        """Full name of the RPC it calls, empty if none."""

    @property
    def is_probe(self) -> bool:
        """Whether it is a health check, which is exempt from the limit of concurrent requests."""

    def connect(self, channel: ServiceChannel) -> None:
        """Set the channel. Called once, before the first request."""

    async def respond(self, request: IncomingRequest) -> web.Response:
        """Return the response of a request. Raises RequestError."""


class RpcEndpoint:
    """Endpoint of one RPC at one route."""

    is_probe = False

    def __init__(self, route: Route, shared: Shared, slots: Slots, options: EndpointOptions) -> None:
        """Compile the route. Raises UnsupportedContract."""
        self.rpc = route.rpc
        self._transcoder = Transcoder(route)
        self._shared = shared
        self._slots = slots
        self._options = options
        self._is_read = route.http_method == "GET"
        self._request_has_etag = "etag" in route.request.fields_by_name
        self._response_has_etag = "etag" in route.response.fields_by_name
        self._response_is_empty = not route.response.fields
        self._call: Any = None
        self._client_metadata: Callable[[str], tuple[tuple[str, str], ...]] = lambda _: ()

    def connect(self, channel: ServiceChannel) -> None:
        """Create the stub of the RPC."""
        self._client_metadata = channel.client_metadata
        self._call = channel.unary_unary(
            self.rpc,
            request_serializer=self._transcoder.request_class.SerializeToString,
            response_deserializer=self._transcoder.response_class.FromString,
        )

    async def respond(self, request: IncomingRequest) -> web.Response:
        """Call the RPC. The service authenticates, but a request without a token is rejected before its body is read.

        The slot is taken once the body has arrived, so that a slow client holds none. A rejection for load is answered
        late, without a slot, and so are many requests with invalid keys: a client that repeats the request at once
        would otherwise keep gateway and service busy with failures.
        """
        token = headers.token(request.http)
        if token is None:
            raise RequestError(error_response("denied_authentication"))
        try:
            body = await self._read_body(request.http)
            with self._slots:
                return await self._call_rpc(request, body, token)
        except InvalidArguments as invalid:
            raise RequestError(invalid_arguments(invalid.violations)) from None
        except RequestError as error:
            status = error.response.status
            if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}:
                unauthenticated = status == HTTPStatus.UNAUTHORIZED
                await asyncio.sleep(self._shared.late_answers.delay(unauthenticated=unauthenticated))
            raise

    async def _call_rpc(self, request: IncomingRequest, body: bytes, token: str) -> web.Response:
        message = await self._decode(request, body)
        key = None if self._is_read else headers.idempotency_key(request.http)
        consistency = headers.consistency(request.http) if self._is_read else None
        self._apply_if_match(message, request.http)
        metadata = _metadata(request.request_id, token, key, consistency)
        metadata += self._client_metadata(request.client_address)
        if request.span is not None:
            metadata += request.span.headers
        timeout = headers.timeout_seconds(request.http, self._options.call_timeout_seconds)
        call = self._call(message, timeout=timeout, metadata=grpc.aio.Metadata(*metadata))
        try:
            message = await call
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error, request.request_id)
            copied = {**failure.headers, **_copied_headers(error.trailing_metadata())}
            raise RequestError(replace(failure, headers=copied)) from error
        response = await self._response(request.http, message)
        if copied := _copied_headers(await call.trailing_metadata()):
            response.headers.update(copied)
        return response

    def _apply_if_match(self, message: Any, request: web.BaseRequest) -> None:
        """Copy the etag of If-Match to the message. Raises InvalidArguments."""
        etag = None if self._is_read else headers.if_match(request)
        if etag is None:
            return
        if not self._request_has_etag:
            raise InvalidArguments((Violation("if-match", "unknown", "is not supported by this call"),))
        if message.etag not in ("", etag):
            raise InvalidArguments((Violation("etag", "constraint", "must equal the etag of If-Match"),))
        message.etag = etag

    async def _response(self, request: web.BaseRequest, message: Any) -> web.Response:
        """Return the response, with an ETag for a single resource; 304 if the caller has that version.

        A message without fields is 204, as in the public API.
        """
        if self._response_is_empty:
            return no_content()
        if is_long(message, self._transcoder.lists):
            return json_response(HTTPStatus.OK, await self._shared.long_lists.encode(self._transcoder, message))
        if not self._response_has_etag:
            return json_response(HTTPStatus.OK, self._transcoder.encode(message))
        etag = message.etag
        if self._is_read and headers.if_none_match(request, etag):
            response = web.Response(status=HTTPStatus.NOT_MODIFIED, headers=HEADERS)
        else:
            response = json_response(HTTPStatus.OK, self._transcoder.encode(message))
        response.headers[hdrs.ETAG] = f'"{etag}"'
        return response

    async def _read_body(self, request: web.BaseRequest) -> bytes:
        """Return the body. One that the route ignores is not waited for: aiohttp discards it after the response."""
        if not request.body_exists:
            return b""
        check_declared_length(request)
        return await self._shared.bodies.read(request) if self._transcoder.reads_body else b""

    async def _decode(self, request: IncomingRequest, body: bytes) -> Message:
        if self._transcoder.reads_body:
            headers.check_media_type(request.http, body)
        parts = (request.captured, request.http.rel_url.raw_query_string, body)
        if len(body) > MAX_INLINE_BODY_BYTES:
            return await asyncio.to_thread(self._transcoder.decode, *parts)
        return self._transcoder.decode(*parts)


class TracedRpcEndpoint(RpcEndpoint):
    """Endpoint of one RPC whose calls are spans below those of their requests."""

    async def _call_rpc(self, request: IncomingRequest, body: bytes, token: str) -> web.Response:
        if request.span is None:
            return await super()._call_rpc(request, body, token)
        name = self.rpc.removeprefix("/")
        span = request.span.client_span(name, {"rpc.system.name": "grpc", "rpc.method": name})
        with span:
            try:
                response = await super()._call_rpc(request._replace(span=span), body, token)
            except RequestError as failure:
                if isinstance(failure.__cause__, grpc.aio.AioRpcError):
                    span.update({"rpc.response.status_code": failure.__cause__.code().name})
                raise
            span.complete_rpc("OK")
            return response


def _copied_headers(trailing: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """Return the headers that the service sets by its trailing metadata."""
    return {COPIED_HEADERS[name]: str(value) for name, value in trailing or () if name in COPIED_HEADERS}


def _metadata(request_id: str, token: str, key: str | None, consistency: str | None) -> list[tuple[str, str]]:
    """Return the metadata of a call, without its client."""
    metadata = [("x-request-id", request_id), ("x-auth-token", token), ACCEPT_DETAILS]
    if key is not None:
        metadata.append(("idempotency-key", key))
    if consistency is not None:
        metadata.append(("x-consistency", consistency))
    return metadata
