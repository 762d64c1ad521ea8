"""The HTTP server under the application: JSON also for what is no HTTP, and a log without it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from aiohttp import web

from postroomd.gateway.endpoints import JSON_HEADERS
from postroomd.gateway.errors import Problem, internal, problem
from postroomd.gateway.handler import problem_response
from postroomd.gateway.headers import new_request_id
from postroomd.gateway.json_codec import to_bytes
from postroomd.gateway.metrics import measure_unreadable
from postroomd.observability.logs import RateLimitedWarning, get_logger
from postroomd.observability.metrics import CONNECTIONS_REFUSED

logger = get_logger()

_NOT_HTTP = replace(
    problem("invalid_arguments"),
    message="The request is not HTTP/1.1 as this server reads it, or its headers are too large.",
)

REFUSAL_SECONDS = 1.0  # in which a client that is told that there is no room has read it


def _closing(refusal: Problem) -> bytes:
    """The octets of a problem as the last answer of a connection."""
    body = to_bytes(refusal.body())
    status = HTTPStatus(refusal.status)
    headers = {**JSON_HEADERS, **refusal.headers, "Content-Length": len(body), "Connection": "close"}
    head = [f"HTTP/1.1 {status} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*head, "", ""]).encode() + body


_NO_ROOM = _closing(problem("too_many_requests"))


class JsonRequestHandler(web.RequestHandler):
    """aiohttp's connection handler, which answers a request that it can't parse in our own way."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a parse error, whose text would quote the request, and with it perhaps a secret."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer is sent already")
        request_id = new_request_id()
        refusal = _NOT_HTTP if status < HTTPStatus.INTERNAL_SERVER_ERROR else internal(request_id)
        response = problem_response(refusal)
        response.headers["X-Request-Id"] = request_id
        response.force_close()
        measure_unreadable(response.status)
        logger.info("call", request_id=request_id, status=response.status, type=refusal.type)
        return response


@asynccontextmanager
async def serving(
    handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], max_body_bytes: int, closing_seconds: float
) -> AsyncIterator[web.Server]:
    """Make aiohttp's low-level server of a handler, and close what is left of its connections at the end.

    A web.Application above it would route each request, and wrap its handler, a second time: that is 30 µs a request.
    """
    make_request = partial(web.BaseRequest, loop=asyncio.get_running_loop(), client_max_size=max_body_bytes)
    server = web.Server(handle, request_factory=make_request, handler_cancellation=True)
    try:
        yield server
    finally:
        await asyncio.sleep(0)  # what has arrived begins, to be waited for or canceled
        server.pre_shutdown()
        await server.shutdown(closing_seconds)


class Refusal(asyncio.Protocol):
    """A connection that there is no room for: told so, whatever it asks, and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer at once. The end waits for what the client sends: unread, that would reset the answer away."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a TCP server
        transport.write(_NO_ROOM)
        transport.write_eof()
        asyncio.get_running_loop().call_later(REFUSAL_SECONDS, transport.abort)


async def listen(
    server: web.Server, host: str, port: int, *, most: int = 1_000, reuse_port: bool = False, backlog: int = 1024
) -> asyncio.Server:
    """Accept `most` connections at a time for the server. Raises OSError where the address can't be had."""
    loop = asyncio.get_running_loop()
    refused = RateLimitedWarning("connections refused", CONNECTIONS_REFUSED.labels(), most=most)

    def connection() -> asyncio.Protocol:
        if len(server.connections) >= most:
            refused.record()
            return Refusal()
        return JsonRequestHandler(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,  # a compressed body is refused, not inflated
        )

    return await loop.create_server(connection, host, port, reuse_port=reuse_port or None, backlog=backlog)
