"""Bounded reading of request bodies."""

import asyncio
from dataclasses import dataclass
from typing import cast

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from postroomd.gateway.admission import TOO_MANY_REQUESTS
from postroomd.gateway.connections import Connection
from postroomd.gateway.errors import RequestError, error_response
from postroomd.gateway.violations import InvalidArguments, Violation

SMALL_BODY_BYTES = 65_536
MAX_LARGE_BODIES_BYTES = 64 * 1024 * 1024
"""Memory for bodies in transit, without the first SMALL_BODY_BYTES of each: 1,000 connections could send 1 GiB."""


@dataclass(frozen=True)
class BodyLimits:
    """Time for a whole body, and the rate that it must keep after `grace_seconds`."""

    timeout_seconds: float = 30.0
    min_bytes_per_second: int = 1_024
    grace_seconds: float = 5.0


def check_declared_length(request: web.BaseRequest) -> None:
    """Raise RequestError (413) if the Content-Length exceeds `client_max_size`."""
    if (request.content_length or 0) > request.client_max_size:
        raise RequestError(error_response("payload_too_large"))


class BodyReader:
    """Reads the bodies of all requests of a gateway."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._large_bytes = 0  # of all bodies in transit

    async def read(self, request: web.BaseRequest) -> bytes:
        """Return the body. Raises RequestError if it is too large, InvalidArguments if it is incomplete or too slow.

        aiohttp would wait forever for the rest of a body that it cannot parse.
        """
        try:
            if request.content.is_eof():  # it has arrived together with the headers
                return self._within_limit(request, request.content.read_nowait())
            await _send_continue(request)
            with cast(Connection, request.protocol).receiving_body():
                return await self._receive(request)
        except (web.RequestPayloadError, TimeoutError):
            violation = Violation("body", "format", "did not arrive as its headers say, or too slowly")
            raise InvalidArguments((violation,)) from None

    async def _receive(self, request: web.BaseRequest) -> bytes:
        body = bytearray()
        started = asyncio.get_running_loop().time()
        large = 0
        try:
            while not request.content.at_eof():
                async with asyncio.timeout_at(started + self._seconds_for(len(body))):
                    chunk = await request.content.readany()
                body += chunk
                self._within_limit(request, body)
                if len(body) > SMALL_BODY_BYTES:
                    self._large_bytes += len(chunk)
                    large += len(chunk)
                    if self._large_bytes > MAX_LARGE_BODIES_BYTES:
                        raise RequestError(TOO_MANY_REQUESTS)
            return bytes(body)
        finally:
            self._large_bytes -= large

    def _seconds_for(self, received: int) -> float:
        """Return the time since the start until which the byte after `received` bytes must arrive."""
        at_min_rate = self._limits.grace_seconds + received / self._limits.min_bytes_per_second
        return min(at_min_rate, self._limits.timeout_seconds)

    def _within_limit(self, request: web.BaseRequest, body: bytes | bytearray) -> bytes:
        if len(body) > request.client_max_size:
            raise RequestError(error_response("payload_too_large"))
        return body  # type: ignore[return-value]


async def _send_continue(request: web.BaseRequest) -> None:
    """Send 100 Continue if the client waits for it. Any other expectation is ignored, as RFC 9110 permits."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # else aiohttp assumes that part of the response has been sent
