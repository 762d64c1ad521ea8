"""The boundary around every request: its id, its route, its problem if it has one, and its line in the log."""

import asyncio
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from aiohttp import hdrs, web
from google.protobuf.descriptor import ServiceDescriptor

from postroomd.gateway import headers
from postroomd.gateway.endpoints import (
    Endpoint,
    Incoming,
    Liveness,
    Readiness,
    RpcEndpoint,
    Timeouts,
    json_response,
)
from postroomd.gateway.errors import Problem, Refused, internal, problem
from postroomd.gateway.json_codec import to_bytes
from postroomd.gateway.metrics import Measured
from postroomd.gateway.routes import Found, NotAllowed, RouteTable, read_routes
from postroomd.gateway.violations import printable
from postroomd.observability.logs import RateLimitedWarning, get_logger
from postroomd.observability.metrics import REQUESTS_REFUSED

CLIENT_CLOSED_REQUEST = 499  # in the log and the metrics alone: nobody is left to read it
TOO_MANY = problem("too_many_requests")
REFUSED = TOO_MANY.status
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}

logger = get_logger()


@dataclass(slots=True)
class Outcome:
    """What the log says of a request once it is over."""

    route: str = ""
    rpc: str = ""
    status: int = 0
    type: str = ""


class Gateway:
    """All routes of the services, and the requests under way."""

    def __init__(self, services: Iterable[ServiceDescriptor], timeouts: Timeouts, most_requests: int = 128) -> None:
        """Compile the routes. Raises Unsupported, also where two of them are the same.

        Of the reads that come while `most_requests` are under way, only probes are answered, and of changes none while
        as many are: those may wait long, and reads are not to be refused for it.
        """
        self._draining = False  # once set, each answer ends its connection
        self._idle = asyncio.Event()  # set once nothing is under way and that is waited for
        self._under_way = {True: 0, False: 0}  # by whether they only read
        self._most_requests = most_requests
        self._refused = RateLimitedWarning("requests refused", REQUESTS_REFUSED.labels())  # here, or by the service
        self._measured = Measured()
        self._table = RouteTable[Endpoint]()
        self._add("GET", "/healthz", Liveness())
        self._add("GET", "/readyz", Readiness())
        for route in read_routes(services):
            self._add(route.http_method, route.template, RpcEndpoint(route, timeouts))

    def _add(self, http_method: str, template: str, endpoint: Endpoint) -> None:
        self._table.add(http_method, template, endpoint)
        self._measured.expect(http_method, template)

    def connect(self, channel: grpc.aio.Channel) -> None:
        """Lead every route to the service behind the channel."""
        for endpoint in self._table:
            endpoint.connect(channel)

    @property
    def _busy(self) -> bool:
        return any(self._under_way.values())

    async def drain(self) -> None:
        """Have each answer end its connection from now on, and wait until nothing is under way."""
        self._draining = True
        if self._busy:
            await self._idle.wait()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever happens."""
        started = time.perf_counter()
        request_id = headers.request_id(request)
        outcome = Outcome()
        reads = request.method in _SAFE_METHODS
        self._under_way[reads] += 1
        try:
            response = await self._answer(request, request_id, outcome)
        except asyncio.CancelledError:  # the client has gone, or the drain's time is up; the call ends with us
            outcome.status = CLIENT_CLOSED_REQUEST
            raise
        else:
            outcome.status = response.status
            response.headers[headers.X_REQUEST_ID] = request_id
            if self._draining:
                response.force_close()
            return response
        finally:
            self._under_way[reads] -= 1
            if self._draining and not self._busy:
                self._idle.set()
            self._measured.ended(request.method, outcome.route, outcome.status, started)
            if outcome.status == REFUSED:
                self._refused.record()
            else:
                _log(request, request_id, outcome, started)

    async def _answer(self, request: web.BaseRequest, request_id: str, outcome: Outcome) -> web.Response:
        try:
            found = self._find(request, outcome)
            outcome.rpc = found.endpoint.rpc
            under_way = self._under_way[request.method in _SAFE_METHODS]
            if under_way > self._most_requests and not found.endpoint.is_probe:
                raise Refused(TOO_MANY)
            return await found.endpoint.answer(Incoming(request, found.captured, request_id))
        except Refused as refused:
            refusal = refused.problem
        except ConnectionError:  # the client has gone in the middle of its body
            return web.Response(status=CLIENT_CLOSED_REQUEST)
        except Exception as error:
            # The frames, without the exception's text: that may quote a value.
            stack = "".join(traceback.format_tb(error.__traceback__))
            logger.error("unexpected", request_id=request_id, error=type(error).__qualname__, stack=stack)  # noqa: TRY400
            refusal = internal(request_id)
        outcome.type = refusal.type
        return problem_response(refusal)

    def _find(self, request: web.BaseRequest, outcome: Outcome) -> Found[Endpoint]:
        raw_path = request.rel_url.raw_path
        found = self._table.find(request.method, raw_path)
        if found is None:
            raise Refused(problem("not_found", resource="route", resource_id=printable(raw_path)))
        outcome.route = found.template
        if isinstance(found, NotAllowed):
            raise Refused(problem("method_not_allowed").with_header(hdrs.ALLOW, ", ".join(found.allow)))
        return found


def problem_response(refusal: Problem) -> web.Response:
    """Write a problem."""
    response = json_response(refusal.status, to_bytes(refusal.body()))
    response.headers.update(refusal.headers)
    return response


def _log(request: web.BaseRequest, request_id: str, outcome: Outcome, started: float) -> None:
    """Write one line for a request that failed or may have changed something: no path, no query, no header, no body."""
    if outcome.status < 400 and request.method in _SAFE_METHODS:
        return
    logger.info(
        "call",
        request_id=request_id,
        method=request.method,
        route=outcome.route,
        rpc=outcome.rpc,
        status=outcome.status,
        type=outcome.type,
        duration_ms=round((time.perf_counter() - started) * 1000, 3),
    )
