"""Parsing of request headers: credentials, request id, conditions, consistency, media type.

Header values can contain any byte; values that gRPC metadata cannot carry are rejected or replaced here.
"""

import re
from collections.abc import Sequence
from random import getrandbits

from aiohttp import hdrs, web
from multidict import istr

from postroomd.gateway.errors import RequestError, error_response
from postroomd.gateway.violations import InvalidArguments, Violation

# istr avoids lower-casing the name at every lookup.
X_REQUEST_ID = istr("X-Request-Id")
X_AUTH_TOKEN = istr("X-Auth-Token")
X_CONSISTENCY = istr("X-Consistency")
X_REQUEST_TIMEOUT = istr("X-Request-Timeout")
GRPC_TIMEOUT = istr("Grpc-Timeout")
IDEMPOTENCY_KEY = istr("Idempotency-Key")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
MAX_ETAGS = 32
"""Etags in If-Match; the service compares no more."""
_ETAG = re.compile(r'"([\x21\x23-\x7e]{0,255})"')
_ETAGS = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_ETAG_LIST = re.compile(rf"[ \t,]*{_ETAGS.pattern}(?:[ \t]*,[ \t,]*{_ETAGS.pattern})*[ \t,]*")
_BEARER = re.compile(r"bearer +(.*)", re.IGNORECASE)
_SECONDS = re.compile(r"[0-9]{1,8}(?:\.[0-9]{1,9})?")
_GRPC_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNIT_SECONDS = {"H": 3_600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_JSON = re.compile(r'application/json\s*(;\s*charset="?utf-?8"?\s*)?;?', re.IGNORECASE | re.ASCII)


def request_id(request: web.BaseRequest) -> str:
    """Return the caller's X-Request-Id if it is valid and unique, else a new one."""
    values = request.headers.getall(X_REQUEST_ID, ())
    return values[0] if len(values) == 1 and _REQUEST_ID.fullmatch(values[0]) else new_request_id()


def new_request_id() -> str:
    """Return a random request id: unique, not secret."""
    return f"{getrandbits(128):032x}"


def token(request: web.BaseRequest) -> str | None:
    """Return the secret of the API key, None if absent. Raises RequestError if it is malformed or repeated.

    X-Auth-Token takes precedence over Authorization, which an intermediate proxy may have added for itself.
    """
    values: Sequence[str | None] = request.headers.getall(X_AUTH_TOKEN, ())
    if not values:
        values = [_bearer(value) for value in request.headers.getall(hdrs.AUTHORIZATION, ())]
    if not values:
        return None
    if len(values) > 1 or values[0] is None or not _TOKEN.fullmatch(values[0]):
        raise RequestError(error_response("denied_authentication"))
    return values[0]


def _bearer(value: str) -> str | None:
    match = _BEARER.fullmatch(value)
    return match[1] if match else None


def idempotency_key(request: web.BaseRequest) -> str | None:
    """Return the Idempotency-Key, None if absent. Raises InvalidArguments if it is malformed or repeated."""
    values = request.headers.getall(IDEMPOTENCY_KEY, ())
    if not values:
        return None
    if len(values) > 1 or not _IDEMPOTENCY_KEY.fullmatch(values[0]):
        help_message = "must be one key of 1 to 255 visible ASCII characters"
        raise InvalidArguments((Violation("idempotency-key", "format", help_message),))
    return values[0]


def consistency(request: web.BaseRequest) -> str | None:
    """Return the consistency that the caller requests, None by default. Raises InvalidArguments."""
    values = request.headers.getall(X_CONSISTENCY, ())
    if any(value != "strong" for value in values):
        raise InvalidArguments((Violation("x-consistency", "constraint", "must be `strong` or absent"),))
    return "strong" if values else None


def timeout_seconds(request: web.BaseRequest, maximum: float) -> float:
    """Return the deadline that the caller requests, in seconds from now and at most `maximum`, which is the default.

    X-Request-Timeout is a number of seconds; Grpc-Timeout has a unit, as in the gRPC protocol, such as `500m` for
    milliseconds. The shorter one applies. Raises InvalidArguments for a malformed or repeated header, and for zero.
    """
    if X_REQUEST_TIMEOUT not in request.headers and GRPC_TIMEOUT not in request.headers:
        return maximum
    requested = [maximum]
    if (seconds := _only(request, X_REQUEST_TIMEOUT)) is not None:
        help_message = "must be a number of seconds above 0, such as 2.5"
        if not _SECONDS.fullmatch(seconds) or not float(seconds):
            raise InvalidArguments((Violation("x-request-timeout", "format", help_message),))
        requested.append(float(seconds))
    if (timeout := _only(request, GRPC_TIMEOUT)) is not None:
        match = _GRPC_TIMEOUT.fullmatch(timeout)
        if match is None or not int(match[1]):
            help_message = "must be 1 to 8 digits and a unit (H, M, S, m, u, n), above 0, such as 500m"
            raise InvalidArguments((Violation("grpc-timeout", "format", help_message),))
        requested.append(int(match[1]) * _UNIT_SECONDS[match[2]])
    return min(requested)


def _only(request: web.BaseRequest, name: istr) -> str | None:
    """Return the value of a header, None if absent. Raises InvalidArguments if it is repeated."""
    values = request.headers.getall(name, ())
    if len(values) > 1:
        raise InvalidArguments((Violation(name.lower(), "format", "must be sent once"),))
    return values[0] if values else None


def if_match(request: web.BaseRequest) -> str | None:
    """Return If-Match as an `etag` field of a request; None if it is absent or `*` (RFC 9110, section 13.1.1).

    A single strong etag is returned without quotes. A list is returned as it is: the service compares its strong etags
    with the current one, and a weak etag never matches. Raises InvalidArguments for malformed and too many etags.
    """
    values = request.headers.getall(hdrs.IF_MATCH, ())
    if not values or values == ["*"]:
        return None
    joined = ", ".join(values)
    if match := _ETAG.fullmatch(joined):
        return match[1]
    if not _ETAG_LIST.fullmatch(joined):
        raise InvalidArguments((Violation("if-match", "format", 'must be etags in quotes, such as "1a", "1b", or *'),))
    if len(_ETAGS.findall(joined)) > MAX_ETAGS:
        raise InvalidArguments((Violation("if-match", "constraint", f"must have at most {MAX_ETAGS} etags"),))
    return joined


def if_none_match(request: web.BaseRequest, etag: str) -> bool:
    """Whether If-None-Match contains this etag or `*` (RFC 9110, section 13.1.2). Malformed etags match nothing."""
    values = request.headers.getall(hdrs.IF_NONE_MATCH, ())
    if not values:
        return False
    joined = ",".join(values)
    return joined.strip() == "*" or etag in _ETAGS.findall(joined)


def check_media_type(request: web.BaseRequest, body: bytes) -> None:
    """Raise RequestError unless the body is declared as JSON, or is empty and undeclared."""
    types, codings = request.headers.getall(hdrs.CONTENT_TYPE, ()), request.headers.getall(hdrs.CONTENT_ENCODING, ())
    is_json = len(types) == 1 and _JSON.fullmatch(types[0].strip()) is not None
    is_empty = not types and not body
    if not (is_json or is_empty) or any(coding.lower() != "identity" for coding in codings):
        raise RequestError(error_response("unsupported_media_type"))
