"""What a path can lead to: an RPC of the service, or a probe of the gateway's own."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

import grpc
from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped, unused-ignore]
from multidict import CIMultiDict

from postroomd.gateway import headers
from postroomd.gateway.errors import Refused, from_rpc_error, invalid_arguments, problem
from postroomd.gateway.json_codec import to_bytes
from postroomd.gateway.routes import Route
from postroomd.gateway.transcode import Transcoder
from postroomd.gateway.violations import InvalidArguments, Violation

PROBE_SECONDS = 2.0
ACCEPT_DETAILS = ("x-accept-details", "all")  # which open_channel has made room for
# Copied for each answer, which is cheaper than to set them. No cache and no sniffing browser makes more of an answer.
HEADERS = CIMultiDict({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "postroom"})
JSON_HEADERS = CIMultiDict({"Content-Type": "application/json", **HEADERS})
# A mebibyte of the smallest JSON values takes a good part of a second to decode: the event loop must not wait for it.
LARGE_BODY = 65_536


@dataclass(frozen=True)
class Timeouts:
    """How long a request may take to arrive, and the service to answer it."""

    body_seconds: float = 30.0
    call_seconds: float = 30.0


class Incoming(NamedTuple):
    """A request on its way to an endpoint. `captured`: the path's variable segments, still percent-encoded."""

    http: web.BaseRequest
    captured: tuple[str, ...]
    request_id: str


class Endpoint(Protocol):
    """What a route leads to."""

    @property
    def rpc(self) -> str:
        """The full name of the RPC that answers, empty for none."""

    @property
    def is_probe(self) -> bool:
        """Whether it tells how the gateway fares, and so is answered however busy that is."""

    def connect(self, channel: grpc.aio.Channel) -> None:
        """Call through this channel. Comes before the first request."""

    async def answer(self, incoming: Incoming) -> web.Response:
        """Answer a request. Raises Refused."""


class RpcEndpoint:
    """One RPC at one route."""

    is_probe = False

    def __init__(self, route: Route, timeouts: Timeouts) -> None:
        """Compile the route. Raises Unsupported."""
        self.rpc = route.rpc
        self._transcoder = Transcoder(route)
        self._timeouts = timeouts
        self._reads = route.http_method == "GET"
        self._takes_etag = "etag" in route.request.fields_by_name
        self._gives_etag = "etag" in route.response.fields_by_name
        self._call: Any = None

    def connect(self, channel: grpc.aio.Channel) -> None:
        """Make the call once, for all requests."""
        self._call = channel.unary_unary(
            self.rpc,
            request_serializer=self._transcoder.request_class.SerializeToString,
            response_deserializer=self._transcoder.response_class.FromString,
        )

    async def answer(self, incoming: Incoming) -> web.Response:
        """Call the RPC. Who calls is for the service to judge; without a key, no argument is judged here either."""
        token = headers.token(incoming.http)
        try:
            message = await self._decode(incoming)
            key = None if self._reads else headers.idempotency_key(incoming.http)
            consistency = headers.consistency(incoming.http) if self._reads else None
            self._depend_on_etag(message, incoming.http)
        except InvalidArguments as invalid:
            if token is None:
                raise Refused(problem("denied_authentication")) from None
            raise Refused(invalid_arguments(invalid.violations)) from None
        metadata = _metadata(incoming.request_id, token, key, consistency)
        call = self._call(message, timeout=self._timeouts.call_seconds, metadata=metadata)
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            raise Refused(from_rpc_error(error, incoming.request_id)) from error
        answer = self._answer(incoming.http, response)
        if key is not None and (await call.trailing_metadata()).get("idempotency-replayed") == "true":
            answer.headers["Idempotency-Replayed"] = "true"
        return answer

    def _depend_on_etag(self, message: Any, request: web.BaseRequest) -> None:
        """Have a change depend on the etag of If-Match. Raises InvalidArguments where it can't, or names another."""
        etag = None if self._reads else headers.if_match(request)
        if etag is None:
            return
        if not self._takes_etag:
            raise InvalidArguments((Violation("if-match", "unknown", "is not served by this call"),))
        if message.etag not in ("", etag):
            raise InvalidArguments((Violation("etag", "constraint", "is not the etag of If-Match"),))
        message.etag = etag

    def _answer(self, request: web.BaseRequest, response: Any) -> web.Response:
        """The answer, with its ETag where it is of one resource; 304 where the caller has it already."""
        if not self._gives_etag:
            return json_response(HTTPStatus.OK, self._transcoder.encode(response))
        etag = response.etag
        if self._reads and headers.if_none_match(request, etag):
            answer = web.Response(status=HTTPStatus.NOT_MODIFIED, headers=HEADERS)
        else:
            answer = json_response(HTTPStatus.OK, self._transcoder.encode(response))
        answer.headers[hdrs.ETAG] = f'"{etag}"'
        return answer

    async def _decode(self, incoming: Incoming) -> Message:
        # Most reads have no body: there is nothing to wait for, and no clock to set.
        body = await read_body(incoming.http, self._timeouts.body_seconds) if incoming.http.body_exists else b""
        if self._transcoder.reads_body:
            headers.check_media_type(incoming.http, body)
        parts = (incoming.captured, incoming.http.rel_url.raw_query_string, body)
        if len(body) > LARGE_BODY:
            return await asyncio.to_thread(self._transcoder.decode, *parts)
        return self._transcoder.decode(*parts)


class Liveness:
    """Answers while the process lives."""

    rpc = ""
    is_probe = True

    def connect(self, channel: grpc.aio.Channel) -> None:
        """Need nothing of it."""

    async def answer(self, incoming: Incoming) -> web.Response:
        """Say so, whatever the service does."""
        return json_response(HTTPStatus.OK, to_bytes({"status": "ok"}))


class Readiness:
    """Answers whether the service behind the gateway is SERVING, and if not, why."""

    rpc = "/grpc.health.v1.Health/Check"
    is_probe = True

    def __init__(self) -> None:
        self._check: Any = None

    def connect(self, channel: grpc.aio.Channel) -> None:
        """Find the health RPC."""
        self._check = channel.unary_unary(
            self.rpc,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )

    async def answer(self, incoming: Incoming) -> web.Response:
        """Ask the service's own health RPC."""
        try:
            answered = await self._check(health_pb2.HealthCheckRequest(), timeout=PROBE_SECONDS)
        except grpc.aio.AioRpcError as error:
            return _not_serving(f"the service can't be asked: {error.code().name}")
        if answered.status != health_pb2.HealthCheckResponse.SERVING:
            name = health_pb2.HealthCheckResponse.ServingStatus.Name(answered.status)
            return _not_serving(f"the service answers {name}")
        return json_response(HTTPStatus.OK, to_bytes({"status": "serving"}))


def _not_serving(reason: str) -> web.Response:
    return json_response(HTTPStatus.SERVICE_UNAVAILABLE, to_bytes({"status": "not_serving", "reason": reason}))


async def read_body(request: web.BaseRequest, seconds: float) -> bytes:
    """Read a body of at most `max_body_bytes`. Raises Refused, and InvalidArguments where it does not all arrive.

    The time is bounded because a client may be slow on purpose, and because aiohttp goes on waiting for the rest of a
    body that it can't parse.
    """
    if (request.content_length or 0) > request.client_max_size:
        raise Refused(problem("payload_too_large"))
    await _ask_for_body(request)
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refused(problem("payload_too_large")) from None
    except (web.RequestPayloadError, TimeoutError):
        fault = Violation("body", "format", "did not arrive as its headers say, or not in time")
        raise InvalidArguments((fault,)) from None


async def _ask_for_body(request: web.BaseRequest) -> None:
    """Tell a client that waits to be asked for its body to send it. RFC 9110 lets any other expectation be ignored."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # for aiohttp, nothing of the answer is sent yet


def json_response(status: int, body: bytes) -> web.Response:
    """Make a response of JSON."""
    return web.Response(status=status, body=body, headers=JSON_HEADERS)


def _metadata(request_id: str, token: str | None, key: str | None, consistency: str | None) -> grpc.aio.Metadata:
    """What a call carries besides its message."""
    carried = [("x-request-id", request_id), ACCEPT_DETAILS]
    if token is not None:
        carried.append(("x-auth-token", token))
    if key is not None:
        carried.append(("idempotency-key", key))
    if consistency is not None:
        carried.append(("x-consistency", consistency))
    return grpc.aio.Metadata(*carried)
