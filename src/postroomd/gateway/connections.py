"""One HTTP connection: timeouts of slow clients, and JSON responses to requests that are not valid HTTP."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, cast

from aiohttp import hdrs, web

from postroomd.gateway.addresses import canonical_address
from postroomd.gateway.connection_table import CloseReason, ConnectionTable, Phase, TableEntry
from postroomd.gateway.errors import error_response, internal_error
from postroomd.gateway.headers import new_request_id
from postroomd.gateway.metrics import count_unparsed
from postroomd.gateway.responses import error_to_bytes, error_to_http
from postroomd.observability.logs import get_logger

logger = get_logger()

_NOT_HTTP = replace(
    error_response("invalid_arguments"), message="The request is not valid HTTP/1.1, or its headers are too large."
)
_CONNECTION_LIMIT = error_to_bytes(error_response("too_many_requests"))
REFUSAL_SECONDS = 1.0  # time for the client to read the response before its refused connection is aborted


class Connection(web.RequestHandler):
    """aiohttp's connection handler, which also tells the table what it waits for from its client."""

    __slots__ = (
        "_handshake",
        "_phase",
        "_table",
        "_timer",
        "_unanswered",
        "address",
        "client_certificate",
        "probes_only",
    )

    def __init__(self, server: web.Server, table: ConnectionTable, handshake: TableEntry | None = None) -> None:
        """Require a running event loop. `handshake` is the entry in the table that this connection replaces."""
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,  # compressed bodies are rejected, not decompressed
            keepalive_timeout=table.limits.idle_timeout_seconds,
        )
        self.address = ""
        self.client_certificate = ""  # a name in the client's certificate, if one is required
        self.probes_only = False  # accepted beyond the maximum, for health checks
        self._table = table
        self._phase: Phase | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unanswered = 0  # parsed requests without a complete response
        self._handshake = handshake

    def client_address(self, request: web.BaseRequest) -> str:
        """Return the address of the client, behind a trusted proxy that of X-Forwarded-For."""
        proxies = self._table.proxies
        if self.address not in proxies:
            return self.address
        return proxies.client_address(self.address, request.headers.getall(hdrs.X_FORWARDED_FOR, ()))

    @property
    def output_bytes(self) -> int:
        """Response bytes not yet taken by the client's kernel buffers."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close immediately, discarding output."""
        if self.transport is not None:
            self.transport.abort()

    @contextmanager
    def receiving_body(self) -> Iterator[None]:
        """Wait for the body of a request during the block."""
        self._wait_for(Phase.BODY)
        try:
            yield
        finally:
            if self._phase is Phase.BODY:
                self._wait_for(None)

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection, or hand it to RefusedConnection."""
        stream = cast(asyncio.Transport, transport)  # uvloop's transports are not instances of it
        peer = stream.get_extra_info("peername")
        self.address = canonical_address(peer[0]) if peer else ""
        if self._handshake is not None:
            self._table.remove(self._handshake)
            self._handshake = None
            self.client_certificate = _name_of(stream.get_extra_info("peercert"))
        if not self._table.admit(self):
            refused = RefusedConnection()
            stream.set_protocol(refused)
            refused.connection_made(stream)
            return
        self.probes_only = len(self._table) > self._table.limits.max_connections
        super().connection_made(transport)
        self._wait_for(Phase.HEADERS)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave the table."""
        self._stop_timer()
        self._table.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and note whether a request begins or its headers are complete."""
        parsed = self._request_count
        super().data_received(data)
        if self._request_count != parsed:
            self._unanswered += self._request_count - parsed
            if self._phase in (Phase.HEADERS, Phase.NEXT_REQUEST):
                self._wait_for(None)
        elif data and self._phase is Phase.NEXT_REQUEST and self._waiter is not None:  # not the rest of an old body
            self._wait_for(Phase.HEADERS)

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read its response."""
        super().pause_writing()
        self._wait_for(Phase.READING)
        self._table.limit_output()

    def resume_writing(self) -> None:
        """Stop waiting: the client has read enough."""
        super().resume_writing()
        if self._phase is Phase.READING:
            self._wait_for(None)

    # --- aiohttp.web.RequestHandler -----------------------------------------------------------------------------------

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; afterwards, the connection is idle."""
        result = await super().finish_response(request, resp, start_time)
        if isinstance(resp, web.Response):
            resp.body = None  # aiohttp keeps the response until the next request: up to 16 MiB per idle connection
        self._unanswered -= 1
        if not self._unanswered:
            self._wait_for(Phase.NEXT_REQUEST)
        return result

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

    # --- Waiting for the client ---------------------------------------------------------------------------------------

    def _wait_for(self, phase: Phase | None) -> None:
        """Set what to wait for, with its timeout. aiohttp times out idle connections, BodyReader bodies."""
        self._table.move(self, self._phase, phase)
        self._phase = phase
        if self._timer is not None:
            self._stop_timer()
        if phase is Phase.HEADERS:
            seconds = self._table.limits.header_timeout_seconds
            self._timer = self._loop.call_later(seconds, self._table.close, self, CloseReason.HEADER_TIMEOUT)
        elif phase is Phase.READING:
            self._time_output()

    def _time_output(self) -> None:
        seconds = self._table.limits.write_timeout_seconds
        self._timer = self._loop.call_later(seconds, self._check_output, self.output_bytes)

    def _check_output(self, before: int) -> None:
        """Close the connection of a client that has read nothing since `before` bytes were left."""
        if self.output_bytes >= before:
            self._table.close(self, CloseReason.WRITE_TIMEOUT)
        else:
            self._time_output()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _name_of(certificate: Mapping[str, Any] | None) -> str:
    """Return the first alternative name of a verified certificate, or its common name."""
    if not certificate:
        return ""
    names = [value for _, value in certificate.get("subjectAltName", ())]
    subject = {name: value for part in certificate.get("subject", ()) for name, value in part}
    return str(next(iter(names), subject.get("commonName", "")))


class RefusedConnection(asyncio.Protocol):
    """Connection beyond the limit: sends 429, whatever the request, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the response at once. Closing with unread input would reset the connection and discard the response."""
        stream = cast(asyncio.Transport, transport)
        stream.write(_CONNECTION_LIMIT)
        stream.write_eof()
        asyncio.get_running_loop().call_later(REFUSAL_SECONDS, stream.abort)
