"""What may come back for a case. Each check raises AssertionError with the reason."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from postroomd.rpc.status import ERROR_DOMAIN
from tests.fuzz.exchange import Http2Stream, HttpResponse

EXCEPTION_TEXT = re.compile(
    r"Traceback|File \\?\"|\.pyx?\b|\b[A-Za-z]+(?:Exception|Error)\b|<class |<object|object at 0x|NoneType"
    r"|sqlite|asyncpg|sqlalchemy|aiohttp|site-packages",
)
"""Text of an exception, or of what raised it."""

ERROR_KEYS: Mapping[str, tuple[int, frozenset[str]]] = {
    "invalid_arguments": (400, frozenset({"details"})),
    "denied_authentication": (401, frozenset({"method", "reason"})),
    "permissions_denied": (403, frozenset({"details"})),
    "quotas_exceeded": (403, frozenset({"details"})),
    "not_found": (404, frozenset({"resource", "resource_id"})),
    "method_not_allowed": (405, frozenset()),
    "conflict": (409, frozenset({"resource", "resource_id"})),
    "transient_state": (409, frozenset({"resource", "resource_id", "current_state"})),
    "precondition_failed": (412, frozenset({"precondition", "help_message"})),
    "payload_too_large": (413, frozenset()),
    "unsupported_media_type": (415, frozenset()),
    "locked": (423, frozenset({"resource", "resource_id"})),
    "too_many_requests": (429, frozenset()),
    "unavailable": (503, frozenset()),
}
"""The status and the further keys of an error by type, as the contract has them. `internal` is none that may come."""
DETAIL_KEYS: Mapping[str, frozenset[str]] = {
    "invalid_arguments": frozenset({"argument_name", "reason", "help_message"}),
    "permissions_denied": frozenset({"resource", "action"}),
    "quotas_exceeded": frozenset({"resource", "quota", "current"}),
}
REASONS = {"required", "format", "constraint", "unknown"}

# By gRPC itself, without the service's details.
_CODES_OF_GRPC = {
    StatusCode.UNIMPLEMENTED,  # an unknown method, an algorithm that it does not know
    StatusCode.RESOURCE_EXHAUSTED,  # a message or metadata beyond the limit
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.CANCELLED,
}
_NEVER = {StatusCode.UNKNOWN, StatusCode.INTERNAL, StatusCode.DATA_LOSS}
_MALFORMED = re.compile(
    r"Illegal header (?:key|value): .*|Metadata keys cannot be .*|Error parsing '[^']*' metadata.*"
    r"|Compression bit set but no encoding configured|Failed parsing HTTP/2 .*",
    re.DOTALL,
)
"""Malformed frames and headers, which gRPC itself reports as INTERNAL or UNAVAILABLE: docs/security.md."""
_BY_NUMBER = {code.value[0]: code for code in StatusCode}


def check_http(response: HttpResponse) -> None:
    """Check one REST response."""
    text = response.body.decode()
    _check_text(text)
    _check_text(str(response.headers))
    assert response.headers.get("content-type") == "application/json" or response.status == 304, response.headers
    if response.status < 400:
        assert response.status in {200, 204, 304}, response.status
        json.loads(text or "null")
        return
    assert response.status < 500 or response.status == 503, f"HTTP {response.status}: {text}"
    if text:  # else the response to HEAD
        check_error_body(response.status, json.loads(text))
    if response.status in {429, 503}:
        assert response.headers["retry-after"].isdecimal()


def check_error_body(status: int, body: Any) -> None:
    """Check the body of a REST error against the contract."""
    assert isinstance(body, dict), body
    kind, message = str(body.get("type")), body.get("message")
    assert kind in ERROR_KEYS, body
    expected, keys = ERROR_KEYS[kind]
    assert status == expected, body
    assert isinstance(message, str), body
    assert message not in {"", "Validation Error"}, body
    assert keys <= body.keys(), body
    for detail in body.get("details", ()):
        assert DETAIL_KEYS.get(kind, frozenset()) <= detail.keys(), body
        if kind == "invalid_arguments":
            assert detail["reason"] in REASONS, body


def check_grpc(stream: Http2Stream) -> None:
    """Check what came back on one stream."""
    headers = stream.headers
    _check_text(str(headers))
    if not headers or ":status" not in headers:
        return  # reset, or closed with the connection, before any answer
    assert int(headers[":status"]) < 500, headers
    if "grpc-status" not in headers:
        assert not stream.ended or stream.reset is not None or headers[":status"] != "200", f"no status: {headers}"
        return
    code = _BY_NUMBER[int(headers["grpc-status"])]
    message = unquote(headers.get("grpc-message", ""))
    _check_text(message)
    if code in {StatusCode.INTERNAL, StatusCode.UNAVAILABLE} and _MALFORMED.fullmatch(message):
        return
    assert code not in _NEVER, f"{code.name}: {message}"
    details = headers.get("grpc-status-details-bin")
    if details is not None:
        _check_status(code, message, details)
    elif code is StatusCode.OK:
        assert not stream.body or stream.body[0] == 0, "compressed without having been asked to"
    else:
        assert code in _CODES_OF_GRPC, f"{code.name} without details: {message}"


def _check_status(code: StatusCode, message: str, details: str) -> None:
    status = status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
    assert (status.code, status.message) == (code.value[0], message), (code, message, status)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info), status
    assert info.domain == ERROR_DOMAIN, status
    assert info.reason.lower() in ERROR_KEYS, status


def _check_text(text: str) -> None:
    found = EXCEPTION_TEXT.search(text)
    assert found is None, f"text of an exception, {found[0]!r}: {text[:2_000]}"


def check_log(log: str, secret: str) -> None:
    """Check that a log has lines of JSON, no error, and no secret."""
    for line in log.splitlines():
        assert line.startswith("{"), f"not a log line: {line}"
        assert json.loads(line)["level"] not in {"error", "critical"}, line
        assert "Traceback" not in line, line
        assert secret not in line, f"a password: {line}"
