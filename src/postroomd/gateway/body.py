"""Bounded reading of request bodies."""

import asyncio

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from postroomd.gateway.errors import RequestError, error_response
from postroomd.gateway.violations import InvalidArguments, Violation


def check_declared_length(request: web.BaseRequest) -> None:
    """Raise RequestError (413) if the Content-Length exceeds `client_max_size`."""
    if (request.content_length or 0) > request.client_max_size:
        raise RequestError(error_response("payload_too_large"))


async def read_body(request: web.BaseRequest, timeout_seconds: float) -> bytes:
    """Return a body of at most `client_max_size` bytes. Raises RequestError, and InvalidArguments if it is incomplete.

    The timeout covers slow clients, and aiohttp's endless wait for the rest of a body that it cannot parse.
    """
    await _send_continue(request)
    try:
        async with asyncio.timeout(timeout_seconds):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise RequestError(error_response("payload_too_large")) from None
    except (web.RequestPayloadError, TimeoutError):
        violation = Violation("body", "format", "did not arrive as its headers say, or not in time")
        raise InvalidArguments((violation,)) from None


async def _send_continue(request: web.BaseRequest) -> None:
    """Send 100 Continue if the client waits for it. Any other expectation is ignored, as RFC 9110 permits."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # else aiohttp assumes that part of the response has been sent
