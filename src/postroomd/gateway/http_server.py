"""HTTP server of the gateway: connection limit, and JSON responses to requests that are not valid HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import cast

from aiohttp import web

from postroomd.gateway.errors import error_response, internal_error
from postroomd.gateway.headers import new_request_id
from postroomd.gateway.metrics import count_unparsed
from postroomd.gateway.responses import error_to_bytes, error_to_http
from postroomd.observability.logs import RateLimitedWarning, get_logger
from postroomd.observability.metrics import CONNECTIONS_REFUSED

logger = get_logger()

_NOT_HTTP = replace(
    error_response("invalid_arguments"), message="The request is not valid HTTP/1.1, or its headers are too large."
)
_CONNECTION_LIMIT = error_to_bytes(error_response("too_many_requests"))
REFUSAL_SECONDS = 1.0  # time for the client to read the response before its refused connection is aborted


class JsonRequestHandler(web.RequestHandler):
    """aiohttp's connection handler, with JSON responses to requests that cannot be parsed."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to a parse error, without aiohttp's message: it quotes the request, maybe a secret."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of the response has been sent")
        request_id = new_request_id()
        error = _NOT_HTTP if status < HTTPStatus.INTERNAL_SERVER_ERROR else internal_error(request_id)
        response = error_to_http(error)
        response.headers["X-Request-Id"] = request_id
        response.force_close()
        count_unparsed(response.status)
        logger.info("call", request_id=request_id, status=response.status, type=error.type)
        return response


@asynccontextmanager
async def open_server(
    handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], max_body_bytes: int, shutdown_seconds: float
) -> AsyncIterator[web.Server]:
    """Create aiohttp's low-level server; on exit, close its connections within `shutdown_seconds`.

    A web.Application would route each request and wrap its handler a second time, at 30 µs per request.
    """
    make_request = partial(web.BaseRequest, loop=asyncio.get_running_loop(), client_max_size=max_body_bytes)
    server = web.Server(handle, request_factory=make_request, handler_cancellation=True)
    try:
        yield server
    finally:
        await asyncio.sleep(0)  # start the handlers of received requests, so that they are awaited or cancelled
        server.pre_shutdown()
        await server.shutdown(shutdown_seconds)


class RefusedConnection(asyncio.Protocol):
    """Connection beyond the limit: sends 429, whatever the request, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the response at once. Closing with unread input would reset the connection and discard the response."""
        stream = cast(asyncio.Transport, transport)  # uvloop's transports are not instances of it
        stream.write(_CONNECTION_LIMIT)
        stream.write_eof()
        asyncio.get_running_loop().call_later(REFUSAL_SECONDS, stream.abort)


async def listen(
    server: web.Server,
    host: str,
    port: int,
    *,
    max_connections: int = 1_000,
    reuse_port: bool = False,
    backlog: int = 1024,
) -> asyncio.Server:
    """Accept up to `max_connections` concurrent connections. Raises OSError if the address is not available."""
    loop = asyncio.get_running_loop()
    refused = RateLimitedWarning("connections refused", CONNECTIONS_REFUSED.labels(), max_connections=max_connections)

    def accept() -> asyncio.Protocol:
        if len(server.connections) >= max_connections:
            refused.record()
            return RefusedConnection()
        return JsonRequestHandler(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,  # compressed bodies are rejected, not decompressed
        )

    return await loop.create_server(accept, host, port, reuse_port=reuse_port or None, backlog=backlog)
