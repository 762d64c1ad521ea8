"""The request headers that mean something: who calls, which request it is, and what the body is written in.

A header's value may hold any byte. What gRPC could not carry on is refused or replaced here.
"""

import re
from collections.abc import Sequence
from random import getrandbits

from aiohttp import hdrs, web
from multidict import istr

from postroomd.gateway.errors import Refused, problem
from postroomd.gateway.violations import InvalidArguments, Violation

# Spelled for look-ups once: a plain string is lowered for each.
X_REQUEST_ID = istr("X-Request-Id")
X_AUTH_TOKEN = istr("X-Auth-Token")
X_CONSISTENCY = istr("X-Consistency")
IDEMPOTENCY_KEY = istr("Idempotency-Key")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_ETAG = re.compile(r'"([\x21\x23-\x7e]{0,255})"')
_ETAGS = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_BEARER = re.compile(r"bearer +(.*)", re.IGNORECASE)
_JSON = re.compile(r'application/json\s*(;\s*charset="?utf-?8"?\s*)?;?', re.IGNORECASE | re.ASCII)


def request_id(request: web.BaseRequest) -> str:
    """Take the caller's X-Request-Id where it is one plain word, else make one up."""
    given = request.headers.getall(X_REQUEST_ID, ())
    return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else new_request_id()


def new_request_id() -> str:
    """Make up a request id. It needs to be another one each time, not a secret."""
    return f"{getrandbits(128):032x}"


def token(request: web.BaseRequest) -> str | None:
    """Find the secret of the API key; None without one. Raises Refused where there is no telling what it is.

    X-Auth-Token goes before Authorization, which a proxy on the way may have added for itself.
    """
    given: Sequence[str | None] = request.headers.getall(X_AUTH_TOKEN, ())
    if not given:
        given = [_bearer(value) for value in request.headers.getall(hdrs.AUTHORIZATION, ())]
    if not given:
        return None
    if len(given) > 1 or given[0] is None or not _TOKEN.fullmatch(given[0]):
        raise Refused(problem("denied_authentication"))
    return given[0]


def _bearer(value: str) -> str | None:
    match = _BEARER.fullmatch(value)
    return match[1] if match else None


def idempotency_key(request: web.BaseRequest) -> str | None:
    """Find the Idempotency-Key; None without one. Raises InvalidArguments for one that is malformed, or two."""
    given = request.headers.getall(IDEMPOTENCY_KEY, ())
    if not given:
        return None
    if len(given) > 1 or not _IDEMPOTENCY_KEY.fullmatch(given[0]):
        fault = Violation("idempotency-key", "format", "one key of 1 to 255 visible ASCII characters")
        raise InvalidArguments((fault,))
    return given[0]


def consistency(request: web.BaseRequest) -> str | None:
    """Find how fresh the caller wants a list to be; None without a word on it. Raises InvalidArguments."""
    given = request.headers.getall(X_CONSISTENCY, ())
    if any(value != "strong" for value in given):
        raise InvalidArguments((Violation("x-consistency", "constraint", "`strong`, or nothing"),))
    return "strong" if given else None


def if_match(request: web.BaseRequest) -> str | None:
    """Find the one etag that a change is to depend on; None without one, or for `*` (RFC 9110, section 13.1.1).

    Raises InvalidArguments for several, a weak one, and what is no etag.
    """
    given = request.headers.getall(hdrs.IF_MATCH, ())
    if not given or given == ["*"]:
        return None
    match = _ETAG.fullmatch(given[0]) if len(given) == 1 else None
    if match is None:
        raise InvalidArguments((Violation("if-match", "format", 'one strong etag, such as "1a", or *'),))
    return match[1]


def if_none_match(request: web.BaseRequest, etag: str) -> bool:
    """Tell whether the caller has this version already (RFC 9110, section 13.1.2). What is no etag matches nothing."""
    given = request.headers.getall(hdrs.IF_NONE_MATCH, ())
    if not given:
        return False
    listed = ",".join(given)
    return listed.strip() == "*" or etag in _ETAGS.findall(listed)


def check_media_type(request: web.BaseRequest, body: bytes) -> None:
    """Raise Refused unless the body is JSON, or nothing at all."""
    types, codings = request.headers.getall(hdrs.CONTENT_TYPE, ()), request.headers.getall(hdrs.CONTENT_ENCODING, ())
    is_json = len(types) == 1 and _JSON.fullmatch(types[0].strip()) is not None
    is_nothing = not types and not body
    if not (is_json or is_nothing) or any(coding.lower() != "identity" for coding in codings):
        raise Refused(problem("unsupported_media_type"))
