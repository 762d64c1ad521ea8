"""HTTP responses of the gateway: JSON bodies and the headers that every response carries."""

from http import HTTPStatus

from aiohttp import web
from multidict import CIMultiDict

from postroomd.gateway.errors import ErrorResponse
from postroomd.gateway.json_codec import to_bytes

# Copied for each response, which is cheaper than setting each header.
HEADERS = CIMultiDict({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "postroom"})
JSON_HEADERS = CIMultiDict({"Content-Type": "application/json", **HEADERS})


def json_response(status: int, body: bytes) -> web.Response:
    """Return a response with a JSON body."""
    return web.Response(status=status, body=body, headers=JSON_HEADERS)


def no_content() -> web.Response:
    """Return a response without a body, for a message without fields."""
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=JSON_HEADERS)


def error_to_http(error: ErrorResponse) -> web.Response:
    """Return the HTTP response of an error."""
    response = json_response(error.status, to_bytes(error.body()))
    response.headers.update(error.headers)
    return response


def error_to_bytes(error: ErrorResponse) -> bytes:
    """Return the bytes of an error as the last HTTP/1.1 response of a connection."""
    body = to_bytes(error.body())
    status = HTTPStatus(error.status)
    headers = {**JSON_HEADERS, **error.headers, "Content-Length": len(body), "Connection": "close"}
    head = [f"HTTP/1.1 {status} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*head, "", ""]).encode() + body
