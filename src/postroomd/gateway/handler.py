"""Boundary of every request: request id, routing, admission, error mapping, metrics and access log."""

import asyncio
import time
import traceback
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from aiohttp import hdrs, web
from google.protobuf.descriptor import ServiceDescriptor

from postroomd.gateway import headers
from postroomd.gateway.admission import TOO_MANY_REQUESTS, Slots
from postroomd.gateway.channel import ServiceChannel
from postroomd.gateway.connections import Connection
from postroomd.gateway.cors import Cors
from postroomd.gateway.endpoints import (
    Endpoint,
    EndpointOptions,
    IncomingRequest,
    RpcEndpoint,
    Shared,
    TracedRpcEndpoint,
)
from postroomd.gateway.errors import RequestError, error_response, internal_error
from postroomd.gateway.metrics import METHODS, OTHER_METHOD, HttpMetrics
from postroomd.gateway.probes import Liveness, Readiness
from postroomd.gateway.reference_page import reference_page
from postroomd.gateway.responses import error_to_http
from postroomd.gateway.routes import Match, MethodNotAllowed, RouteTable, read_routes
from postroomd.gateway.static import StaticFile
from postroomd.gateway.violations import printable
from postroomd.observability.logs import RateLimitedWarning, get_logger
from postroomd.observability.metrics import REQUESTS_REFUSED

if TYPE_CHECKING:
    from postroomd.observability.tracing import Span, Tracer

CLIENT_CLOSED_REQUEST = 499  # in logs and metrics only: the client is gone
LIVENESS_PATH, READINESS_PATH = "/healthz", "/readyz"
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}

logger = get_logger()


@dataclass(slots=True)
class Outcome:
    """Fields of a request's access log line."""

    route: str = ""
    rpc: str = ""
    status: int = 0
    type: str = ""


def api_endpoints(
    services: Iterable[ServiceDescriptor], options: EndpointOptions, max_requests: int = 128, *, traced: bool = False
) -> Iterator[tuple[str, str, Endpoint]]:
    """Yield the endpoints of the services' RPCs and those of the gateway itself. Raises UnsupportedContract.

    `max_requests` limits reads in progress, and separately changes in progress: changes may wait long for password
    hashes, and must not make reads fail. Probes are exempt. A request counts once its body has arrived.
    """
    yield "GET", LIVENESS_PATH, Liveness()
    yield "GET", READINESS_PATH, Readiness()
    yield "GET", "/openapi.json", StaticFile("openapi.json", "application/json")
    for path, file in reference_page():
        yield "GET", path, file
    shared = Shared(options)
    rpc_endpoint = TracedRpcEndpoint if traced else RpcEndpoint
    read_slots, change_slots = Slots(max_requests), Slots(max_requests)
    for route in read_routes(services):
        slots = read_slots if route.http_method in _SAFE_METHODS else change_slots
        yield route.http_method, route.template, rpc_endpoint(route, shared, slots, options)


class Gateway:
    """Routes to endpoints, and the requests in progress."""

    def __init__(
        self,
        endpoints: Iterable[tuple[str, str, Endpoint]],
        cors_origins: Collection[str] = (),
        tracer: "Tracer | None" = None,
    ) -> None:
        """Serve endpoints, each with its HTTP method and path template. Raises UnsupportedContract for equal routes."""
        self._draining = False  # once set, each response closes its connection
        self._idle = asyncio.Event()  # set once no request is in progress during the drain
        self._in_progress = 0  # requests, those whose body is arriving included
        self._cors = Cors(cors_origins)
        self._refused = RateLimitedWarning(
            "requests refused", REQUESTS_REFUSED.labels()
        )  # by the gateway or by the service
        self._metrics = HttpMetrics()
        self._tracer = tracer
        self._table = RouteTable[Endpoint]()
        for http_method, template, endpoint in endpoints:
            self._table.add(http_method, template, endpoint)
            self._metrics.register(http_method, template)

    def connect(self, channel: ServiceChannel) -> None:
        """Set the channel of every endpoint."""
        for endpoint in self._table:
            endpoint.connect(channel)

    async def drain(self) -> None:
        """Close each connection after its next response, and wait until no request is in progress."""
        self._draining = True
        if self._in_progress:
            await self._idle.wait()

    async def handle_traced(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return the response of one request, within a span unless it is a probe."""
        if self._tracer is None or request.rel_url.raw_path in {LIVENESS_PATH, READINESS_PATH}:
            return await self.handle(request)
        method = request.method if request.method in METHODS else OTHER_METHOD
        received = ((name.lower(), value) for name, value in request.headers.items())
        with self._tracer.server_span(method, received, {"http.request.method": method}) as span:
            span.begin_logging()
            return await self.handle(request, span)

    async def handle(self, request: web.BaseRequest, span: "Span | None" = None) -> web.StreamResponse:
        """Return the response of one request; raises nothing but CancelledError."""
        started = time.perf_counter()
        request_id = headers.request_id(request)
        outcome = Outcome()
        self._in_progress += 1
        try:
            response = await self._respond(request, request_id, outcome, span)
        except (
            asyncio.CancelledError
        ):  # the client disconnected, or the drain timed out; the gRPC call is cancelled too
            outcome.status = CLIENT_CLOSED_REQUEST
            raise
        else:
            outcome.status = response.status
            response.headers[headers.X_REQUEST_ID] = request_id
            self._cors.add_headers(request, response.headers)
            if self._draining or cast(Connection, request.protocol).probes_only:
                response.force_close()
            return response
        finally:
            self._in_progress -= 1
            if self._draining and not self._in_progress:
                self._idle.set()
            self._metrics.observe(request.method, outcome.route, outcome.status, started)
            if span is not None:
                _describe(span, request, request_id, outcome)
            if outcome.status == TOO_MANY_REQUESTS.status:
                self._refused.record()
            else:
                _log(request, request_id, outcome, started)

    async def _respond(
        self, request: web.BaseRequest, request_id: str, outcome: Outcome, span: "Span | None"
    ) -> web.Response:
        connection = cast(Connection, request.protocol)
        try:
            match = self._find(request, outcome)
            if isinstance(match, MethodNotAllowed):
                if (preflight := self._cors.preflight(request, match.allow)) is not None:
                    return preflight
                error = error_response("method_not_allowed").with_header(hdrs.ALLOW, ", ".join(match.allow))
                raise RequestError(error)
            outcome.rpc = match.endpoint.rpc
            if connection.probes_only and not match.endpoint.is_probe:
                raise RequestError(TOO_MANY_REQUESTS)
            client_address = connection.client_address(request)
            incoming = IncomingRequest(request, match.captured, request_id, client_address, span)
            return await match.endpoint.respond(incoming)
        except RequestError as failure:
            error = failure.response
        except ConnectionError:  # the client disconnected while sending its body
            return web.Response(status=CLIENT_CLOSED_REQUEST)
        except Exception as exception:
            # Frames only: the text of the exception may contain a secret value.
            stack = "".join(traceback.format_tb(exception.__traceback__))
            logger.error(  # noqa: TRY400
                "unhandled exception", request_id=request_id, error=type(exception).__qualname__, stack=stack
            )
            error = internal_error(request_id)
        outcome.type = error.type
        return error_to_http(error)

    def _find(self, request: web.BaseRequest, outcome: Outcome) -> Match[Endpoint] | MethodNotAllowed:
        raw_path = request.rel_url.raw_path
        match = self._table.find(request.method, raw_path)
        if match is None:
            raise RequestError(error_response("not_found", resource="route", resource_id=printable(raw_path)))
        outcome.route = match.template
        return match


def _describe(span: "Span", request: web.BaseRequest, request_id: str, outcome: Outcome) -> None:
    """Set name and attributes of a request's span. Its path may hold addresses, and is left out."""
    method = request.method if request.method in METHODS else OTHER_METHOD
    attributes = {"postroom.request_id": request_id}
    if outcome.route:
        attributes["http.route"] = outcome.route
    span.update(attributes, f"{method} {outcome.route}".rstrip())
    span.complete_http(outcome.status)


def _log(request: web.BaseRequest, request_id: str, outcome: Outcome, started: float) -> None:
    """Log a request that failed or may have changed something, without its path, query, headers and body."""
    if outcome.status < 400 and request.method in _SAFE_METHODS:
        return
    certificate = cast(Connection, request.protocol).client_certificate
    logger.info(
        "call",
        request_id=request_id,
        method=request.method,
        route=outcome.route,
        rpc=outcome.rpc,
        status=outcome.status,
        type=outcome.type,
        duration_ms=round((time.perf_counter() - started) * 1000, 3),
        **({"client_certificate": certificate} if certificate else {}),
    )
