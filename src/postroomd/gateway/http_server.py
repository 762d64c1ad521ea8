"""HTTP server of the gateway."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

from aiohttp import web

from postroomd.gateway.connection_table import ConnectionTable
from postroomd.gateway.connections import Connection
from postroomd.gateway.tls_listener import TlsListener, bind


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


class Listener(Protocol):
    """Accepts connections until it is closed."""

    @property
    def sockets(self) -> Sequence[Any]:
        """The listening sockets."""

    def close(self) -> None:
        """Stop accepting."""


async def listen(
    server: web.Server,
    table: ConnectionTable,
    host: str,
    port: int,
    *,
    tls: Callable[[], ssl.SSLContext] | None = None,
    reuse_port: bool = False,
    backlog: int = 1024,
) -> Listener:
    """Accept connections within the limits of the table. Raises OSError if the address is not available.

    `tls` returns the context of a new connection; None: plain HTTP.
    """
    if tls is not None:
        return TlsListener(server, table, tls, bind(host, port, reuse_port=reuse_port, backlog=backlog))
    accept = partial(Connection, server, table)
    loop = asyncio.get_running_loop()
    return await loop.create_server(accept, host, port, reuse_port=reuse_port or None, backlog=backlog)
